//! A line to a terminal, pipe or file that never blocks.
//!
//! Owns: the way to write to a descriptor that others share, such as standard
//! error, without waiting for its reader.
//!
//! Invariants: the descriptor's own mode is not changed, for it belongs to
//! other processes, too. A line goes out in one write, whole or, to a terminal
//! that has no room for all of it, in part; then it counts as not written.
//!
//! Must not: keep lines for later, or count the lost ones.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use crate::sys::cerr;
use crate::sys::fd::poll::is_writable;

/// The longest line: what a pipe that is writable has room for (Linux:
/// PIPE_BUF).
pub(crate) const MAX_LINE_BYTES: usize = 4096;

/// Another descriptor of the same pipe or terminal, nonblocking without the
/// others who have it open noticing. Where that cannot be had (a socket, a
/// file, another user's terminal, no /proc), a plain copy of `fd`.
pub(crate) fn nonblocking_twin(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = File::from(fd.try_clone_to_owned()?);
    let kind = copy.metadata()?.file_type();
    // A file opened anew would be written from its beginning.
    if kind.is_fifo() || kind.is_char_device() {
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        if let Ok(twin) = File::options().write(true).custom_flags(flags).open(path) {
            return Ok(twin.into());
        }
    }
    Ok(copy.into())
}

/// Writes a line, its LF included, if that does not block; false when it would
/// or when only a part was written. A line past [`MAX_LINE_BYTES`] is an error.
///
/// On a descriptor that blocks, a terminal with room for a part of the line,
/// or another process filling the pipe at the same moment, could still make us
/// wait: [`nonblocking_twin`] rules that out.
pub(crate) fn try_write_line(fd: BorrowedFd<'_>, line: &[u8]) -> io::Result<bool> {
    if line.len() > MAX_LINE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "line is too long",
        ));
    }
    if !is_writable(fd)? {
        return Ok(false);
    }
    // SAFETY: pointer and length are those of `line`, borrowed for the call.
    match cerr(unsafe { libc::write(fd.as_raw_fd(), line.as_ptr().cast(), line.len()) }) {
        Ok(count) => Ok(usize::try_from(count) == Ok(line.len())),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::created::Access;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::scratch::Scratch;
    use std::io::{Read, Seek};
    use std::os::fd::AsFd;

    /// A pipe whose write end blocks, as standard error does.
    fn pipe(dir: &Scratch) -> (Fifo, File) {
        let path = dir.join("pipe");
        let access = Access {
            mode: 0o600,
            uid: None,
            gid: None,
        };
        let reader = Fifo::create(&path, None, access).unwrap();
        (reader, File::options().write(true).open(path).unwrap())
    }

    fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
        // SAFETY: no pointers; the descriptor is borrowed for the call.
        let flags = cerr(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) });
        flags.unwrap() & libc::O_NONBLOCK != 0
    }

    #[test]
    fn a_full_pipe_is_not_waited_for() {
        let dir = Scratch::new("output-full");
        let (reader, writer) = pipe(&dir);
        let mut lines = 0;
        while try_write_line(writer.as_fd(), &[b'x'; MAX_LINE_BYTES]).unwrap() {
            lines += 1;
        }
        assert!(lines > 0);
        assert!(!try_write_line(writer.as_fd(), b"x\n").unwrap());
        assert_eq!(
            reader.read(&mut [0; MAX_LINE_BYTES]).unwrap(),
            MAX_LINE_BYTES
        );
        assert!(try_write_line(writer.as_fd(), b"x\n").unwrap());
    }

    #[test]
    fn the_twin_alone_is_nonblocking() {
        let dir = Scratch::new("output-twin");
        let (reader, writer) = pipe(&dir);
        let twin = nonblocking_twin(writer.as_fd()).unwrap();
        assert!(!is_nonblocking(writer.as_fd()));
        assert_eq!(is_nonblocking(twin.as_fd()), cfg!(target_os = "linux"));
        assert!(try_write_line(twin.as_fd(), b"line\n").unwrap());
        assert_eq!(reader.read(&mut [0; 16]).unwrap(), 5);
    }

    #[test]
    fn a_pipe_nobody_reads_is_an_error() {
        let dir = Scratch::new("output-broken");
        let (reader, writer) = pipe(&dir);
        drop(reader);
        let error = try_write_line(writer.as_fd(), b"line\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_longest_line_is_known() {
        let dir = Scratch::new("output-long");
        let (_reader, writer) = pipe(&dir);
        for len_bytes in [MAX_LINE_BYTES - 1, MAX_LINE_BYTES] {
            assert!(try_write_line(writer.as_fd(), &vec![b'x'; len_bytes]).unwrap());
        }
        let error = try_write_line(writer.as_fd(), &[b'x'; MAX_LINE_BYTES + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_is_appended_to() {
        let dir = Scratch::new("output-file");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.join("log"))
            .unwrap();
        for line in [&b"first\n"[..], b"second\n"] {
            let twin = nonblocking_twin(file.as_fd()).unwrap();
            assert!(try_write_line(twin.as_fd(), line).unwrap());
        }
        let mut content = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "first\nsecond\n");
    }
}
