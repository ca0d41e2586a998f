//! Chunked bodies: one end however they arrive, and the one that httparse, which decodes them, would see.

use tidegate::edge::chunked::{ChunkFault, ChunkedBody};

/// Any bytes: a body and what follows.
pub fn check(data: &[u8]) {
    let whole = read(&[data]);
    for at in 1..data.len().min(64) {
        let (first, second) = data.split_at(at);
        assert_eq!(read(&[first, second]), whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(read(&bytes), whole, "byte by byte");
    if let Ok(Some(end)) = whole {
        assert!(data[..end].ends_with(b"\r\n"));
        assert_eq!(lax_end(data), Some(end), "another end");
    }
}

fn read(parts: &[&[u8]]) -> Result<Option<usize>, ChunkFault> {
    let mut body = ChunkedBody::default();
    let mut taken = 0;
    for part in parts {
        taken += body.take(part)?;
    }
    Ok(body.is_done().then_some(taken))
}

/// Where the body ends for somebody who forgives what httparse forgives.
fn lax_end(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let httparse::Status::Complete((head, size)) =
            httparse::parse_chunk_size(&data[at..]).ok()?
        else {
            return None;
        };
        at += head;
        if size == 0 {
            // Trailers, up to an empty line.
            loop {
                let line = data[at..].windows(2).position(|two| two == b"\r\n")?;
                at += line + 2;
                if line == 0 {
                    return Some(at);
                }
            }
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if data.get(at..at.checked_add(2)?)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}
