//! The poll set.
//!
//! Owns: the array handed to poll(2), kept between turns for its memory only.
//!
//! Invariants: a slot means what was pushed since the last [`PollSet::clear`];
//! nothing is registered anywhere, so nothing goes stale. A descriptor that
//! hung up, failed or is not open reports itself ready, so that the read or
//! write that follows finds out why. After the first turns no memory is
//! allocated.
//!
//! Must not: own descriptors, or read and write them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::sys::cerr;
use crate::sys::mem::resident::Unneeded;

/// What a descriptor is waited for.
///
/// With neither, poll(2) still reports a hangup or an error, at once and every
/// time: a descriptor nothing is wanted of is better not pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Wait until a read would not block.
    pub read: bool,
    /// Wait until a write would not block.
    pub write: bool,
}

impl Interest {
    pub(crate) const READ: Interest = Interest {
        read: true,
        write: false,
    };
    pub(crate) const WRITE: Interest = Interest {
        read: false,
        write: true,
    };
}

/// What a wait found out about one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// A read would not block: there is input, a hangup or an error. Reported
    /// for the latter two without having been asked for.
    pub readable: bool,
    /// A write was asked for and would not block, if only because it fails.
    pub writable: bool,
}

/// The descriptors of one turn of the loop.
#[derive(Default)]
pub(crate) struct PollSet {
    /// One element per slot, in the order they were pushed.
    fds: Vec<libc::pollfd>,
}

impl PollSet {
    pub(crate) fn new() -> PollSet {
        PollSet::default()
    }

    /// Forgets all slots, keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.fds.clear();
    }

    /// Adds a descriptor and gives its slot, counted from 0. The descriptor is
    /// to stay open until the wait; one that was closed is merely reported
    /// ready.
    pub(crate) fn push(&mut self, fd: BorrowedFd<'_>, interest: Interest) -> usize {
        let mut events = 0;
        if interest.read {
            events |= libc::POLLIN;
        }
        if interest.write {
            events |= libc::POLLOUT;
        }
        self.fds.push(libc::pollfd {
            fd: fd.as_raw_fd(),
            events,
            revents: 0,
        });
        self.fds.len() - 1
    }

    /// Waits until a slot is ready or `timeout` is over; without one, for
    /// ever. The timeout is rounded up to whole milliseconds, so that a
    /// deadline waited for has passed, and ends at `i32::MAX` of them. A
    /// signal ends the wait with nothing ready.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        poll(&mut self.fds, timeout_millis(timeout))
    }

    /// As [`PollSet::wait`], for a long wait: `unneeded` is given back before, all but for
    /// this function.
    #[inline(never)]
    pub(crate) fn sleep(
        &mut self,
        timeout: Option<Duration>,
        unneeded: &Unneeded,
    ) -> io::Result<()> {
        let timeout_millis = timeout_millis(timeout);
        unneeded.give_back();
        poll(&mut self.fds, timeout_millis)
    }

    /// What the last wait found for a slot; nothing before the first.
    ///
    /// # Panics
    ///
    /// If `slot` was not given by [`PollSet::push`] since the last clear.
    pub(crate) fn ready(&self, slot: usize) -> Ready {
        let libc::pollfd {
            events, revents, ..
        } = self.fds[slot];
        let broken = revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0;
        Ready {
            readable: broken || revents & libc::POLLIN != 0,
            writable: events & libc::POLLOUT != 0 && (broken || revents & libc::POLLOUT != 0),
        }
    }
}

/// Whether a write to `fd` would not block now.
pub(crate) fn is_writable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    }];
    poll(&mut fds, 0)?;
    Ok(fds[0].revents != 0)
}

/// poll(2), where being interrupted is having found nothing.
#[inline(always)]
fn poll(fds: &mut [libc::pollfd], timeout_millis: libc::c_int) -> io::Result<()> {
    let count = fds.len() as libc::nfds_t;
    // SAFETY: pointer and count are those of a slice borrowed for the call.
    let result = cerr(unsafe { libc::poll(fds.as_mut_ptr(), count, timeout_millis) });
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            // Systems differ in whether they filled in the results.
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Ok(())
        }
        Err(error) => {
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Err(error)
        }
    }
}

/// A timeout as poll(2) wants it.
fn timeout_millis(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |timeout| {
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::{spawn, NotSpawning};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    const BOTH: Interest = Interest {
        read: true,
        write: true,
    };

    fn poll_one(fd: BorrowedFd<'_>, interest: Interest) -> Ready {
        let mut set = PollSet::new();
        let slot = set.push(fd, interest);
        set.wait(Some(Duration::ZERO)).unwrap();
        set.ready(slot)
    }

    #[test]
    fn timeouts_round_up_and_end_at_the_largest_int() {
        let millis = |nanos| timeout_millis(Some(Duration::from_nanos(nanos)));
        assert_eq!(timeout_millis(None), -1);
        assert_eq!(millis(0), 0);
        assert_eq!(millis(1), 1);
        assert_eq!(millis(999_999), 1);
        assert_eq!(millis(1_000_000), 1);
        assert_eq!(millis(1_000_001), 2);
        let largest = i32::MAX as u64;
        for (given, expected) in [
            (largest - 1, i32::MAX - 1),
            (largest, i32::MAX),
            (largest + 1, i32::MAX),
        ] {
            assert_eq!(timeout_millis(Some(Duration::from_millis(given))), expected);
        }
        assert_eq!(timeout_millis(Some(Duration::MAX)), i32::MAX);
    }

    #[test]
    fn slots_report_what_was_asked_for() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"x").unwrap();
        let mut set = PollSet::new();
        let idle = set.push(near.as_fd(), Interest::READ);
        let input = set.push(far.as_fd(), Interest::READ);
        let both = set.push(far.as_fd(), BOTH);
        let output = set.push(near.as_fd(), Interest::WRITE);
        assert_eq!(
            set.ready(input),
            Ready::default(),
            "nothing before the wait"
        );
        set.wait(None).unwrap();
        assert_eq!(set.ready(idle), Ready::default());
        assert_eq!(
            set.ready(input),
            Ready {
                readable: true,
                writable: false
            }
        );
        assert_eq!(
            set.ready(both),
            Ready {
                readable: true,
                writable: true
            }
        );
        assert_eq!(
            set.ready(output),
            Ready {
                readable: false,
                writable: true
            }
        );

        let capacity = set.fds.capacity();
        set.clear();
        for slot in 0..4 {
            assert_eq!(set.push(near.as_fd(), Interest::READ), slot);
        }
        assert_eq!(set.fds.capacity(), capacity);
    }

    #[test]
    fn a_hangup_is_readable_and_writable_if_asked() {
        let _not_spawning = NotSpawning::new();
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        assert_eq!(
            poll_one(near.as_fd(), Interest::READ),
            Ready {
                readable: true,
                writable: false
            }
        );
        assert_eq!(
            poll_one(near.as_fd(), Interest::WRITE),
            Ready {
                readable: true,
                writable: true
            }
        );
        assert!(poll_one(near.as_fd(), Interest::default()).readable);
    }

    #[test]
    fn hangup_alone_and_error_alone_count() {
        let mut child = spawn(
            Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        );
        let mut stdout = child.stdout.take().unwrap();
        let stdin = child.stdin.take().unwrap();
        assert_eq!(poll_one(stdout.as_fd(), Interest::READ), Ready::default());
        child.kill().unwrap();
        child.wait().unwrap();
        // A pipe whose writer left reports POLLHUP without POLLIN, one whose
        // reader left POLLERR.
        assert!(poll_one(stdout.as_fd(), Interest::READ).readable);
        assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(
            poll_one(stdin.as_fd(), Interest::READ),
            Ready {
                readable: true,
                writable: false
            }
        );
        assert_eq!(
            poll_one(stdin.as_fd(), Interest::WRITE),
            Ready {
                readable: true,
                writable: true
            }
        );
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_ready() {
        let mut set = PollSet::new();
        set.fds.push(libc::pollfd {
            fd: i32::MAX,
            events: libc::POLLIN,
            revents: 0,
        });
        set.wait(None).unwrap();
        assert!(set.ready(0).readable);
    }

    #[test]
    fn a_long_wait_ends_as_any() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"x").unwrap();
        let mut set = PollSet::new();
        let slot = set.push(far.as_fd(), Interest::READ);
        let unneeded = Unneeded::but_for(PollSet::sleep as *const ());
        set.sleep(None, &unneeded).unwrap();
        assert!(set.ready(slot).readable);
        let before = std::time::Instant::now();
        let mut set = PollSet::new();
        set.sleep(Some(Duration::from_micros(1500)), &unneeded)
            .unwrap();
        assert!(before.elapsed() >= Duration::from_micros(1500));
    }

    #[test]
    fn an_empty_set_waits_out_its_timeout() {
        let before = std::time::Instant::now();
        PollSet::new()
            .wait(Some(Duration::from_micros(1500)))
            .unwrap();
        assert!(before.elapsed() >= Duration::from_micros(1500));
    }
}
