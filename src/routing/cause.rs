//! Why an origin server could not be asked, in the words of the system or of the parser.

use std::fmt;

use pingora::{Error, ErrorType};

/// The bottom of pingora's chain of errors. What lies above it says where in pingora that was, with every option of
/// the peer or, for a head that cannot be parsed, all of its bytes: cookies too, which belong in no log.
pub struct Cause<'a>(pub &'a Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.0.root_cause();
        let Some(Error { etype, context, .. }) = cause.downcast_ref() else {
            return write!(f, "{cause}");
        };
        match context {
            Some(context) if !tells_the_peer(etype) => f.write_str(context.as_str()),
            _ => f.write_str(etype.as_str()),
        }
    }
}

/// Whether there is no connection to the server, so that it has seen nothing of the request.
pub fn is_unconnected(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::BindError
            | ErrorType::SocketError
            | ErrorType::ConnectProxyFailure
            | ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
    )
}

/// Whether pingora's words for such an error are the peer with its options.
fn tells_the_peer(kind: &ErrorType) -> bool {
    is_unconnected(kind) || matches!(kind, ErrorType::HTTPStatus(_) | ErrorType::InternalError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_said_and_nothing_of_the_peer_or_of_what_it_sent() {
        let peer = "BasicPeer { options }";
        let system = || std::io::Error::from_raw_os_error(111);
        let refused = || Error::because(ErrorType::ConnectRefused, peer, system());
        let unparsable = Error::because(
            ErrorType::InvalidHTTPHeader,
            r"buf: HTTP/1.1 200 OK\r\nSet-Cookie: session=secret\r\nBad Name: x",
            httparse::Error::HeaderName,
        );
        let closed = "while reading response headers, bytes already read: 0";
        for (error, said) in [
            (refused(), "Connection refused (os error 111)"),
            (
                refused().more_context(peer),
                "Connection refused (os error 111)",
            ),
            (
                Error::explain(ErrorType::ConnectTimedout, peer),
                "ConnectTimedout",
            ),
            (unparsable, "invalid header name"),
            (Error::explain(ErrorType::ConnectionClosed, closed), closed),
            (Error::new(ErrorType::WriteError), "WriteError"),
        ] {
            assert_eq!(Cause(&error).to_string(), said);
        }
    }
}
