//! The socket of one of pingora's streams, which itself tells only its number.
//!
//! The measured need is in `benches/README.md`, "Large bodies": a body that is sent from its file costs
//! about half of one that is copied.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use pingora::protocols::l4::stream::Stream as TcpStream;

/// What `with` makes of the socket of `stream`; `None` when that has none.
pub(super) fn lend<T>(stream: &TcpStream, with: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    let number = stream.as_raw_fd();
    if number < 0 {
        return None;
    }
    // SAFETY: `borrow_raw` wants a number that is open for as long as the borrow lives, and not -1.
    // The stream owns its socket and closes it only when it is dropped, which the reference to it
    // rules out until this function returns. `with` must take a borrow of any lifetime, however short, so
    // nothing of it can be in what it returns: the borrow ends before this function does. A stream that
    // has no socket says -1, which was turned away above.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    Some(with(socket))
}
