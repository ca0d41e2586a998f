//! A second handle on a socket of pingora's, which lends only the number of the first.
//!
//! The measured need is in `benches/README.md`, "Large bodies": a body that is sent from its file costs
//! about half of one that is copied.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use pingora::protocols::l4::stream::Stream as TcpStream;

/// A handle of our own on the socket of `stream`, which stays open when `stream` is closed.
///
/// # Errors
/// When there is no socket, or the process may open no more files.
pub(super) fn duplicate(stream: &TcpStream) -> io::Result<OwnedFd> {
    let number = stream.as_raw_fd();
    if number < 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: `borrow_raw` wants a number that is open for as long as the borrow lives, and not -1.
    // The stream owns its socket and closes it only when it is dropped, which the reference to it
    // rules out until this function returns; the borrow ends with this function. A stream that has no
    // socket says -1, which was turned away above.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    socket.try_clone_to_owned()
}
