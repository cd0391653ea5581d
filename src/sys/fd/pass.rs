//! Descriptors passed to another process through a UNIX socket.
//!
//! Owns: the control message of SCM_RIGHTS, unix(7).
//!
//! Invariants: what is received is close-on-exec, and owned as soon as it is there, so
//! none leaks, whatever else the message contains.
//!
//! Must not: judge what was received.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use crate::sys::cerr;

/// The most descriptors of a message.
pub(crate) const MAX_FDS: usize = 64;

/// Room for the control message, aligned as its header.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    bytes: [u8; 64 + MAX_FDS * mem::size_of::<RawFd>()],
}

/// A message with one piece of data and the room for descriptors.
fn message(data: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: integers and nullable pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = data;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(control).cast();
    message.msg_controllen = mem::size_of::<Control>() as _;
    message
}

/// A length of a header, which is not of the same type on every system.
fn length(length: impl TryInto<usize>) -> usize {
    length.try_into().unwrap_or_default()
}

/// Sends `text` and descriptors, [`MAX_FDS`] at most, in one message.
#[cold]
#[inline(never)]
pub(crate) fn send(to: &UnixStream, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let len_bytes = mem::size_of_val(&numbers[..]);
    if numbers.len() > MAX_FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut data = libc::iovec {
        iov_base: text.as_ptr().cast_mut().cast(),
        iov_len: text.len(),
    };
    let mut control = Control {
        bytes: [0; mem::size_of::<Control>()],
    };
    let mut message = message(&mut data, &mut control);
    // SAFETY: a calculation without pointers.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(len_bytes as _) } as _;
    // SAFETY: the message is filled in, its control is longer than a header.
    let header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    // SAFETY: integers, for which zero is a value.
    let mut filled: libc::cmsghdr = unsafe { mem::zeroed() };
    filled.cmsg_level = libc::SOL_SOCKET;
    filled.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: a calculation without pointers.
    filled.cmsg_len = unsafe { libc::CMSG_LEN(len_bytes as _) } as _;
    // SAFETY: the header is in `control`, which is aligned for it and borrowed.
    unsafe { ptr::write(header, filled) };
    // SAFETY: the header is one of a message with room behind it.
    let place = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: `control` has room for MAX_FDS numbers behind the header, and there are no
    // more; the regions are those of two variables.
    unsafe { ptr::copy_nonoverlapping(numbers.as_ptr().cast(), place, len_bytes) };
    // SAFETY: all that the message points to outlives the call; the text is only read.
    let sent = cerr(unsafe { libc::sendmsg(to.as_raw_fd(), &message, libc::MSG_NOSIGNAL) })?;
    match usize::try_from(sent) == Ok(text.len()) {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Receives what was sent so, into `text`. Returns the length of that, 0 when the sender
/// has closed the socket, and the descriptors.
#[cold]
#[inline(never)]
pub(crate) fn receive(from: &UnixStream, text: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut data = libc::iovec {
        iov_base: text.as_mut_ptr().cast(),
        iov_len: text.len(),
    };
    let mut control = Control {
        bytes: [0; mem::size_of::<Control>()],
    };
    let mut message = message(&mut data, &mut control);
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: all that the message points to is borrowed for the call, with its lengths.
    let count = cerr(unsafe { libc::recvmsg(from.as_raw_fd(), &mut message, flags) })?;
    let mut received = Vec::new();
    // SAFETY: the kernel filled the message in.
    let header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    if header.is_null() {
        return Ok((count.unsigned_abs() as usize, received));
    }
    // SAFETY: a header that is not null lies in `control`, which lives on.
    let found = unsafe { *header };
    if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        let mut numbers = [0; MAX_FDS];
        // SAFETY: a calculation without pointers.
        let header_bytes = unsafe { libc::CMSG_LEN(0) } as usize;
        let len_bytes = length(found.cmsg_len).saturating_sub(header_bytes);
        let len_bytes = len_bytes.min(mem::size_of_val(&numbers));
        // SAFETY: the header is one of a message that was received.
        let place = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: the kernel wrote that many bytes behind the header, and there is room
        // for them; the regions are those of two variables.
        unsafe { ptr::copy_nonoverlapping(place, numbers.as_mut_ptr().cast(), len_bytes) };
        for number in &numbers[..len_bytes / mem::size_of::<RawFd>()] {
            // SAFETY: the descriptor is new in this process and owned by nothing else.
            received.push(unsafe { OwnedFd::from_raw_fd(*number) });
        }
    }
    Ok((count.unsigned_abs() as usize, received))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::NotSpawning;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_arrive_with_their_text() {
        let _not_spawning = NotSpawning::new();
        let (near, far) = UnixStream::pair().unwrap();
        for count in [0, 1, MAX_FDS] {
            let pairs: Vec<_> = (0..count).map(|_| UnixStream::pair().unwrap()).collect();
            let fds: Vec<_> = pairs.iter().map(|(a, _)| a.as_fd()).collect();
            send(&near, b"text", &fds).unwrap();
            let mut text = [0; 16];
            let (len_bytes, received) = receive(&far, &mut text).unwrap();
            assert_eq!(&text[..len_bytes], b"text");
            assert_eq!(received.len(), count);
            for (received, (_, other)) in received.into_iter().zip(&pairs) {
                File::from(received).write_all(b"x").unwrap();
                let mut byte = [0];
                let mut other = other;
                other.read_exact(&mut byte).unwrap();
                assert_eq!(byte, *b"x");
            }
        }
        let too_many = vec![near.as_fd(); MAX_FDS + 1];
        assert!(send(&near, b"text", &too_many).is_err());
        drop(near);
        assert_eq!(receive(&far, &mut [0; 4]).unwrap().0, 0);
    }
}
