//! A terminal as a screen: keys unprocessed, everything drawn by us, and given
//! back as it was.
//!
//! Owns: the settings a terminal had before, and the few sequences that begin
//! and end a full screen. [`Terminal::enter`] takes it, [`leave`] gives it back;
//! so do dropping the [`Terminal`] and a panic, whose message is then to be
//! read on the screen that the user had before.
//!
//! Invariants: what is changed is noted first, in a static, because a panic
//! reaches nothing else. Giving back twice does nothing. Signals made by keys
//! (^C, ^Z, ^\) stay signals. Output never blocks where the system can do that.
//!
//! Must not: know what is drawn, or handle signals.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic;
use std::sync::{Mutex, Once, PoisonError, TryLockError};
use std::time::Duration;

use super::cerr;
use crate::sys::fd::output::nonblocking_twin;
use crate::sys::fd::poll::{Interest, PollSet};

/// Another screen, cleared, without a cursor; nothing wraps at the right edge; the
/// mouse's buttons and wheel are reported, as numbers.
const BEGIN: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?1000h\x1b[?1006h\x1b[0m\x1b[2J";
/// Takes back what [`BEGIN`] did.
const END: &[u8] = b"\x1b[0m\x1b[?1006l\x1b[?1000l\x1b[?7h\x1b[?25h\x1b[?1049l";
/// How long a terminal that takes no output may delay giving it back.
const PATIENCE: Duration = Duration::from_millis(200);

/// A terminal that is not as its user left it.
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

/// What is needed to give a terminal back.
struct Taken {
    /// Where keys come from.
    input: OwnedFd,
    /// Where the screen is drawn.
    output: File,
    /// The settings it had.
    settings: libc::termios,
}

/// A terminal's two directions.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Where keys come from.
    input: File,
    /// Where the screen is drawn; nonblocking where the system can do that.
    output: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub columns: usize,
}

impl Terminal {
    /// The terminal at standard output, with keys from standard input or, when
    /// that is something else, from the controlling terminal. Nothing is
    /// changed yet.
    pub(crate) fn open() -> io::Result<Terminal> {
        let input = if io::stdin().is_terminal() {
            io::stdin().as_fd().try_clone_to_owned()?
        } else {
            File::open("/dev/tty")?.into()
        };
        Ok(Terminal {
            input: input.into(),
            output: nonblocking_twin(io::stdout().as_fd())?.into(),
        })
    }

    /// Takes the terminal for the screen. Done again, as after having been
    /// stopped, it sets everything anew.
    pub(crate) fn enter(&self) -> io::Result<()> {
        restore_in_panic();
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = match &*taken {
            Some(taken) => taken.settings,
            None => get_settings(self.input.as_fd())?,
        };
        *taken = Some(Taken {
            input: self.input.try_clone()?.into(),
            output: self.output.try_clone()?,
            settings,
        });
        let mut raw = settings;
        raw.c_iflag &= !(libc::BRKINT | libc::ICRNL | libc::INLCR | libc::IGNCR);
        raw.c_iflag &= !(libc::ISTRIP | libc::IXON);
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ECHONL | libc::IEXTEN);
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        set_settings(self.input.as_fd(), &raw)?;
        write_patiently(&self.output, BEGIN);
        Ok(())
    }

    /// How large the screen is; `None` when the terminal does not know.
    pub(crate) fn size(&self) -> Option<Size> {
        let mut size = MaybeUninit::<libc::winsize>::zeroed();
        // SAFETY: TIOCGWINSZ stores a winsize; the pointer is to memory for
        // one, borrowed for the call.
        let result = cerr(unsafe {
            libc::ioctl(self.output.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr())
        });
        result.ok()?;
        // SAFETY: integers only, for which zero is a value.
        let size = unsafe { size.assume_init() };
        let (rows, columns) = (usize::from(size.ws_row), usize::from(size.ws_col));
        (rows > 0 && columns > 0).then_some(Size { rows, columns })
    }

    /// Whether the terminal is ours to draw on: not when the shell has put us
    /// into the background.
    pub(crate) fn is_foreground(&self) -> bool {
        // SAFETY: no pointers.
        match cerr(unsafe { libc::tcgetpgrp(self.input.as_raw_fd()) }) {
            // SAFETY: no arguments, cannot fail.
            Ok(group) => group == unsafe { libc::getpgrp() },
            // Not our controlling terminal: there is no job control.
            Err(_) => true,
        }
    }

    /// Reads what was typed; for when the input is ready. 0: the terminal is
    /// gone.
    pub(crate) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        (&self.input).read(bytes)
    }

    /// Writes as much as there is room for.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.output).write(bytes)
    }

    /// The descriptor to wait for keys on.
    pub(crate) fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// The descriptor to wait for room on.
    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives the terminal back, if it is taken.
pub(crate) fn leave() {
    // A panic may come while the lock is taken: then nothing has been taken, or
    // everything that matters has been given back.
    let taken = match TAKEN.try_lock() {
        Ok(mut taken) => taken.take(),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
        Err(TryLockError::WouldBlock) => None,
    };
    if let Some(taken) = taken {
        // A terminal that is gone has no settings to be restored.
        let _ = set_settings(taken.input.as_fd(), &taken.settings);
        write_patiently(&taken.output, END);
    }
}

/// Makes a panic give the terminal back before the message.
fn restore_in_panic() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            report(info);
        }));
    });
}

/// Writes all of a few bytes unless the terminal takes none for [`PATIENCE`].
fn write_patiently(mut output: &File, mut bytes: &[u8]) {
    let mut set = PollSet::new();
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                set.clear();
                let slot = set.push(output.as_fd(), Interest::WRITE);
                if set.wait(Some(PATIENCE)).is_err() || !set.ready(slot).writable {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// tcgetattr(3).
fn get_settings(fd: BorrowedFd<'_>) -> io::Result<libc::termios> {
    let mut settings = MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: the pointer is to memory for a termios, borrowed for the call.
    cerr(unsafe { libc::tcgetattr(fd.as_raw_fd(), settings.as_mut_ptr()) })?;
    // SAFETY: the call filled it in.
    Ok(unsafe { settings.assume_init() })
}

/// tcsetattr(3), at once: waiting for output to drain could last for ever.
fn set_settings(fd: BorrowedFd<'_>, settings: &libc::termios) -> io::Result<()> {
    // SAFETY: the pointer is to a termios borrowed for the call.
    cerr(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, settings) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::alone;
    use std::os::fd::FromRawFd;
    use std::ptr;

    /// A pseudo-terminal: the emulator's side and the program's.
    fn pair() -> (File, Terminal) {
        let (mut near, mut far) = (-1, -1);
        let (name, settings, size) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: the first two point to integers borrowed for the call, the
        // others may be null.
        cerr(unsafe { libc::openpty(&mut near, &mut far, name, settings, size) }).unwrap();
        // SAFETY: the descriptor is new and owned by nothing else.
        let near = unsafe { File::from_raw_fd(near) };
        // SAFETY: as above.
        let far = unsafe { File::from_raw_fd(far) };
        let terminal = Terminal {
            output: far.try_clone().unwrap(),
            input: far,
        };
        (near, terminal)
    }

    /// The flags that matter, to compare.
    fn flags(terminal: &Terminal) -> (libc::tcflag_t, libc::tcflag_t, libc::tcflag_t) {
        let settings = get_settings(terminal.input()).unwrap();
        (settings.c_iflag, settings.c_oflag, settings.c_lflag)
    }

    #[test]
    fn it_is_given_back_by_leaving_dropping_and_panicking() {
        let name = "it_is_given_back_by_leaving_dropping_and_panicking";
        alone(module_path!(), name, || {
            let (mut near, terminal) = pair();
            let before = flags(&terminal);
            terminal.enter().unwrap();
            let raw = flags(&terminal);
            assert_ne!(raw, before);
            assert_ne!(raw.2 & libc::ISIG, 0, "^C stays a signal");
            terminal.enter().unwrap();
            leave();
            assert_eq!(flags(&terminal), before, "entered twice, left once");
            leave();

            terminal.enter().unwrap();
            let panicked = panic::catch_unwind(|| panic!("as a test"));
            assert!(panicked.is_err());
            assert_eq!(flags(&terminal), before, "before anything is unwound");

            terminal.enter().unwrap();
            let twin = Terminal {
                input: terminal.input.try_clone().unwrap(),
                output: terminal.output.try_clone().unwrap(),
            };
            drop(twin);
            assert_eq!(flags(&terminal), before);
            // What was written arrives piece by piece; it was given back three times.
            let mut shown = Vec::new();
            let mut set = PollSet::new();
            let ends = |shown: &[u8]| shown.windows(END.len()).filter(|at| *at == END).count();
            while ends(&shown) < 3 {
                set.clear();
                let slot = set.push(near.as_fd(), Interest::READ);
                set.wait(Some(10 * PATIENCE)).unwrap();
                assert!(set.ready(slot).readable, "{}", shown.escape_ascii());
                let mut bytes = [0; 1024];
                let count = near.read(&mut bytes).unwrap();
                shown.extend_from_slice(&bytes[..count]);
            }
            assert!(shown.starts_with(BEGIN) && shown.ends_with(END));
        });
    }

    #[test]
    fn the_size_is_asked_for() {
        let (near, terminal) = pair();
        assert_eq!(terminal.size(), None, "no program has set it");
        let size = libc::winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCSWINSZ reads a winsize, borrowed for the call.
        cerr(unsafe { libc::ioctl(near.as_raw_fd(), libc::TIOCSWINSZ, &size) }).unwrap();
        let (rows, columns) = (24, 80);
        assert_eq!(terminal.size(), Some(Size { rows, columns }));
    }
}
