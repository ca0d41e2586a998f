//! Which authorities, paths and queries are let in, and are therefore what cache keys are made of. Pure.
//!
//! The gate of the edge judges requests by these rules, and what an operator names in a URL is
//! judged by the same ones: a URL that no request can carry names nothing.

/// Why no request can carry a path and query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    /// A byte that does not belong there unescaped (RFC 3986 §3.3, §3.4).
    #[error("a character that must be percent-encoded")]
    Syntax,
    /// A dot segment, plain or encoded.
    #[error("a dot segment")]
    DotSegment,
    /// An encoded slash, backslash or NUL, or a raw backslash.
    #[error("an encoded separator")]
    EncodedSeparator,
    /// A percent sign without two hex digits after it.
    #[error("an invalid percent-escape")]
    Escape,
}

/// Checks path and query byte by byte; returns where the path ends.
///
/// # Errors
/// The first [`TargetFault`] that applies.
pub fn check_target(target: &[u8]) -> Result<usize, TargetFault> {
    let path_end = target
        .iter()
        .position(|b| *b == b'?')
        .unwrap_or(target.len());
    for (at, byte) in target.iter().enumerate() {
        match byte {
            b'%' => {
                let escape = target.get(at + 1..at + 3).ok_or(TargetFault::Escape)?;
                if !escape.iter().all(u8::is_ascii_hexdigit) {
                    return Err(TargetFault::Escape);
                }
                if at < path_end && is_encoded_separator(escape) {
                    return Err(TargetFault::EncodedSeparator);
                }
            }
            b'\\' if at < path_end => return Err(TargetFault::EncodedSeparator),
            b'#' | b'"' | b'<' | b'>' => return Err(TargetFault::Syntax),
            0x21..=0x7e => {}
            _ => return Err(TargetFault::Syntax),
        }
    }
    if target[..path_end].split(|b| *b == b'/').any(is_dot_segment) {
        return Err(TargetFault::DotSegment);
    }
    Ok(path_end)
}

/// `%2F`, `%5C` and `%00`: what stands behind might decode them and see another path than we do.
fn is_encoded_separator(escape: &[u8]) -> bool {
    [b"2f", b"5c", b"00"]
        .iter()
        .any(|separator| escape.eq_ignore_ascii_case(*separator))
}

/// `.` or `..`, each dot plain or as `%2E`, perhaps with parameters behind a semicolon: some servers take those out
/// before they resolve what is left (RFC 3986 §3.3 leaves it to them).
fn is_dot_segment(segment: &[u8]) -> bool {
    let end = memchr::memchr(b';', segment);
    let mut rest = &segment[..end.unwrap_or(segment.len())];
    let mut dots = 0;
    while !rest.is_empty() {
        rest = if let Some(after) = rest.strip_prefix(b".") {
            after
        } else if rest.len() >= 3 && rest[..3].eq_ignore_ascii_case(b"%2e") {
            &rest[3..]
        } else {
            return false;
        };
        dots += 1;
    }
    dots == 1 || dots == 2
}

/// `host[:port]` with a registered name, an IPv4 address or an IPv6 address in brackets
/// (RFC 3986 §3.2.2, without percent-escapes, which no DNS name has).
pub fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = if authority.starts_with(b"[") {
        let Some(end) = authority.iter().position(|b| *b == b']') else {
            return false;
        };
        let inner = &authority[1..end];
        let is_address = inner
            .iter()
            .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
        if inner.is_empty() || !is_address {
            return false;
        }
        (&authority[..=end], &authority[end + 1..])
    } else {
        let end = authority
            .iter()
            .position(|b| *b == b':')
            .unwrap_or(authority.len());
        let named = authority[..end]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !named {
            return false;
        }
        (&authority[..end], &authority[end..])
    };
    let port_is_valid = match port.strip_prefix(b":") {
        None => port.is_empty(),
        Some(digits) => {
            !digits.is_empty() && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit)
        }
    };
    !host.is_empty() && host.len() <= 255 && port_is_valid
}
