//! A FIFO that may come and go, written to without ever waiting.
//!
//! Owns: the open write end, and the count of how often it was opened, the
//! *generation*: the present reader may not know sessions of an earlier one.
//!
//! Invariants: nothing but a FIFO is opened, nonblocking, close-on-exec. A record goes
//! out whole or not at all. The FIFO at the path is the one written to: one that
//! was replaced on disk is opened anew as soon as it has a reader.
//!
//! A writer that gathers keeps records until PIPE_BUF bytes are full, or
//! [`FifoWriter::flush`], so that many of them cost one write(2), and looks at the path only
//! once in each [`LOOK`]. Of what was gathered for a reader that left, the next one gets
//! what names no session: sessions are told to it anew.
//!
//! Must not: keep more than PIPE_BUF bytes of records.

use crate::store::Record;
use crate::sys::fs::writer;
use crate::sys::proc::sigpipe::without_sigpipe;
use crate::wire::write_record;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a writer that gathers relies on what it found at the path: one that was
/// replaced there is read until its last writer closes it.
const LOOK: Duration = Duration::from_millis(100);

/// A FIFO of a daemon, shared by the sessions of a process.
#[derive(Debug)]
pub struct FifoWriter {
    /// Where it is to be.
    path: PathBuf,
    /// An error for a path that is not to be used now.
    check: fn(&Path) -> io::Result<()>,
    end: Mutex<End>,
}

/// The write end, or its absence.
#[derive(Debug, Default)]
struct End {
    /// Open, as far as known.
    file: Option<File>,
    /// How often one was opened.
    generation: u64,
    /// The record that is being written; kept for its memory.
    line: Vec<u8>,
    gathers: bool,
    /// When the path was looked at last.
    looked: Option<Instant>,
    /// Records that count as written and are not yet: of this generation, or of none.
    gathered: Vec<u8>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It is in the FIFO.
    Written,
    /// There was no room for it.
    Full,
    /// It has no reader, or does not exist.
    Absent,
}

impl FifoWriter {
    /// For the FIFO at `path`, which need not be there now or ever. A user who can put
    /// another FIFO there gets the records.
    pub fn new(path: impl Into<PathBuf>) -> FifoWriter {
        FifoWriter::checked(path.into(), |_| Ok(()))
    }

    /// A writer that calls `check` each time before it opens the FIFO.
    pub(crate) fn checked(path: PathBuf, check: fn(&Path) -> io::Result<()>) -> FifoWriter {
        FifoWriter {
            path,
            check,
            end: Mutex::default(),
        }
    }

    /// From now on records are gathered.
    pub(crate) fn gather(&self) {
        self.lock().gathers = true;
    }

    /// Writes what was gathered; false when there is no room for it now. Where no reader
    /// is, records of sessions are lost, as they were in a FIFO that its reader left.
    pub(crate) fn flush(&self) -> bool {
        let end = self.lock();
        OpenFifo { end }.flush() != Delivery::Full
    }

    /// Where the FIFO is to be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the FIFO has a reader, found out by opening it.
    ///
    /// # Errors
    /// Why it cannot be opened: there is none, it is something else, it has no reader
    /// (ENXIO), or permission is denied.
    pub fn probe(&self) -> io::Result<()> {
        self.lock().mend(self)
    }

    /// How often the FIFO was opened. A reader that came with the present generation
    /// knows no session of an earlier one.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Closes the end that has lost its reader.
    pub(crate) fn close(&self) {
        self.lock().file = None;
    }

    /// Another descriptor of the open end, to be watched by poll(2): it becomes
    /// ready, for nothing asked for, when the reader goes away.
    pub(crate) fn watched(&self) -> Option<OwnedFd> {
        let end = self.lock();
        end.file.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    /// Makes sure that it is open, and keeps others out meanwhile. `None` when
    /// it has no reader.
    pub(super) fn open(&self) -> Option<OpenFifo<'_>> {
        let mut end = self.lock();
        // What is gathered goes where its first record was to go.
        if end.gathered.is_empty() || end.file.is_none() {
            end.mend(self).ok()?;
        }
        Some(OpenFifo { end })
    }

    /// Takes the lock; nothing in here leaves anything half done.
    fn lock(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    /// Opens the FIFO if it is not open, or is not the one at the path any more.
    fn mend(&mut self, FifoWriter { path, check, .. }: &FifoWriter) -> io::Result<()> {
        if let Some(file) = &self.file {
            let is_recent = |looked: Instant| looked.elapsed() < LOOK;
            if self.gathers && self.looked.is_some_and(is_recent) {
                return Ok(());
            }
            self.looked = Some(Instant::now());
            let found = fs::metadata(path).and_then(|found| Ok((found, file.metadata()?)));
            let same = |(found, open): (fs::Metadata, fs::Metadata)| {
                (found.dev(), found.ino()) == (open.dev(), open.ino())
            };
            // Gone from its path it may be read all the same, until it is not.
            if found.map_or(true, same) {
                return Ok(());
            }
        }
        match check(path).and_then(|()| writer::open(path)) {
            Ok(file) => {
                self.file = Some(file);
                self.looked = Some(Instant::now());
                self.generation += 1;
                self.forget_sessions();
                Ok(())
            }
            Err(_) if self.file.is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps of what was gathered what names no session.
    fn forget_sessions(&mut self) {
        let records = self.gathered.split_inclusive(|&byte| byte == b'\n');
        let kept = records.filter(|record| record.starts_with(b"ADD-USER\t"));
        self.gathered = kept.flatten().copied().collect();
    }
}

/// The FIFO, open and ours for the moment.
pub(super) struct OpenFifo<'a> {
    end: MutexGuard<'a, End>,
}

impl OpenFifo<'_> {
    /// How often the FIFO was opened.
    pub(super) fn generation(&self) -> u64 {
        self.end.generation
    }

    /// Writes a record. One that is too long counts as written: its writer has cut
    /// what may be long.
    pub(super) fn write_record(&mut self, record: &Record<'_>) -> Delivery {
        let mut line = std::mem::take(&mut self.end.line);
        let delivery = match write_record(&mut line, record) {
            Ok(()) if self.end.gathers => self.gather(&line),
            Ok(()) => self.write(&line),
            Err(_) => Delivery::Written,
        };
        self.end.line = line;
        delivery
    }

    fn gather(&mut self, record: &[u8]) -> Delivery {
        if self.end.gathered.len() + record.len() > libc::PIPE_BUF {
            let delivery = self.flush();
            if delivery != Delivery::Written {
                return delivery;
            }
        }
        self.end.gathered.extend_from_slice(record);
        Delivery::Written
    }

    fn flush(&mut self) -> Delivery {
        if self.end.gathered.is_empty() {
            return Delivery::Written;
        }
        let mut gathered = std::mem::take(&mut self.end.gathered);
        let delivery = self.write(&gathered);
        if delivery == Delivery::Written {
            gathered.clear();
        }
        self.end.gathered = gathered;
        delivery
    }

    /// Writes a record of at most PIPE_BUF bytes. After [`Delivery::Absent`] it
    /// is to be opened anew.
    pub(super) fn write(&mut self, record: &[u8]) -> Delivery {
        let Some(mut file) = self.end.file.as_ref() else {
            return Delivery::Absent;
        };
        let result = loop {
            match without_sigpipe(|| file.write(record)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(_) => Delivery::Written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Delivery::Full,
            Err(_) => {
                self.end.file = None;
                Delivery::Absent
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::created::Access;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::scratch::Scratch;

    const ACCESS: Access = Access {
        mode: 0o600,
        uid: None,
        gid: None,
    };

    fn write(writer: &FifoWriter, record: &[u8]) -> (Delivery, u64) {
        match writer.open() {
            Some(mut opened) => (opened.write(record), opened.generation()),
            None => (Delivery::Absent, 0),
        }
    }

    fn read(fifo: &Fifo) -> Vec<u8> {
        let mut bytes = [0; 64];
        let count = fifo.read(&mut bytes).unwrap_or(0);
        bytes[..count].to_vec()
    }

    #[test]
    fn a_reader_may_come_go_and_be_replaced() {
        let dir = Scratch::new("report-fifo");
        let path = dir.join("fifo");
        let writer = FifoWriter::new(&path);
        assert_eq!(write(&writer, b"a\n"), (Delivery::Absent, 0));
        assert_eq!(writer.probe().unwrap_err().kind(), ErrorKind::NotFound);
        let fifo = Fifo::create(&path, None, ACCESS).unwrap();
        writer.probe().unwrap();
        assert_eq!(write(&writer, b"b\n"), (Delivery::Written, 1));
        assert_eq!(read(&fifo), b"b\n");
        // Gone without a trace, and back with the same inode.
        drop(fifo);
        assert_eq!(write(&writer, b"c\n").0, Delivery::Absent);
        assert_eq!(write(&writer, b"d\n").0, Delivery::Absent);
        let error = writer.probe().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
        let fifo = Fifo::create(&path, None, ACCESS).unwrap();
        assert_eq!(write(&writer, b"e\n"), (Delivery::Written, 2));
        // Unlinked, but still read.
        fs::remove_file(&path).unwrap();
        assert_eq!(write(&writer, b"f\n"), (Delivery::Written, 2));
        assert_eq!(read(&fifo), b"e\nf\n");
        // Replaced while the old one is still read.
        let other = Fifo::create(&path, None, ACCESS).unwrap();
        assert_eq!(write(&writer, b"g\n"), (Delivery::Written, 3));
        assert_eq!((read(&fifo), read(&other)), (vec![], b"g\n".to_vec()));
    }

    #[test]
    fn a_writer_that_gathers_finds_the_fifo_that_replaced_another() {
        let dir = Scratch::new("report-replaced");
        let path = dir.join("fifo");
        let old = Fifo::create(&path, None, ACCESS).unwrap();
        let writer = FifoWriter::new(&path);
        writer.gather();
        let send = || {
            let mut opened = writer.open().unwrap();
            assert_eq!(opened.gather(b"x\n"), Delivery::Written);
            assert_eq!(opened.flush(), Delivery::Written);
        };
        send();
        fs::remove_file(&path).unwrap();
        let new = Fifo::create(&path, None, ACCESS).unwrap();
        let (begun, mut sent, mut at_old) = (Instant::now(), 1, 0);
        let at_new = loop {
            at_old += read(&old).len() / 2;
            match read(&new).len() / 2 {
                0 => assert!(
                    begun.elapsed() < 50 * LOOK,
                    "it still writes to the old one"
                ),
                count => break count,
            }
            send();
            sent += 1;
        };
        assert_eq!(at_old + at_new, sent, "none is lost");
        assert_eq!(writer.generation(), 2);
    }

    #[test]
    fn records_are_gathered_and_none_is_written_twice() {
        let dir = Scratch::new("report-gathered");
        let path = dir.join("fifo");
        let writer = FifoWriter::new(&path);
        writer.gather();
        let record = |number: u32| format!("{number:0>999}\n");
        let gather = |number: u32| match writer.open() {
            Some(mut opened) => opened.gather(record(number).as_bytes()),
            None => Delivery::Absent,
        };
        let fifo = Fifo::create(&path, None, ACCESS).unwrap();
        let read = |fifo: &Fifo| {
            let mut bytes = vec![0; 1 << 20];
            let count = fifo.read(&mut bytes).unwrap_or(0);
            let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
            let numbers = text.lines().map(|line| line.parse::<u32>().unwrap());
            numbers.collect::<Vec<u32>>()
        };
        // As many as one write(2) takes.
        let most = (libc::PIPE_BUF / 1000) as u32;
        for number in 0..most {
            assert_eq!(gather(number), Delivery::Written);
        }
        assert!(read(&fifo).is_empty());
        gather(most);
        assert_eq!(read(&fifo), (0..most).collect::<Vec<u32>>());
        assert!(writer.flush());
        assert_eq!(read(&fifo), [most]);
        assert!(writer.flush());
        assert!(read(&fifo).is_empty());
        // What a full one does not take is kept, and the next record is refused.
        let mut taken = (0..).take_while(|&number| gather(number) == Delivery::Written);
        let count = taken.by_ref().count() as u32;
        assert!(!writer.flush());
        let mut numbers = read(&fifo);
        assert!(writer.flush());
        numbers.extend(read(&fifo));
        assert_eq!(numbers, (0..count).collect::<Vec<u32>>());
    }

    #[test]
    fn what_names_no_session_outlives_the_reader_it_was_gathered_for() {
        let dir = Scratch::new("report-outlives");
        let path = dir.join("fifo");
        let writer = FifoWriter::new(&path);
        writer.gather();
        let gather = |record: &[u8]| writer.open().map(|mut opened| opened.gather(record));
        // Whether the loss is found by writing, or told.
        for is_told in [false, true] {
            let fifo = Fifo::create(&path, None, ACCESS).unwrap();
            for record in [&b"DISCONNECT\ts\n"[..], b"ADD-USER\tu\tauth\n", b"x\n"] {
                assert_eq!(gather(record), Some(Delivery::Written));
            }
            drop(fifo);
            match is_told {
                true => writer.close(),
                false => assert!(writer.flush()),
            }
            assert_eq!(gather(b"ADD-USER\tlate\tauth\n"), None);
            let fifo = Fifo::create(&path, None, ACCESS).unwrap();
            assert_eq!(gather(b"CONNECT\n"), Some(Delivery::Written));
            assert!(writer.flush());
            assert_eq!(read(&fifo), b"ADD-USER\tu\tauth\nCONNECT\n");
        }
    }

    #[test]
    fn a_full_one_drops_and_what_is_no_fifo_is_not_written_to() {
        let dir = Scratch::new("report-full");
        let path = dir.join("fifo");
        let fifo = Fifo::create(&path, None, ACCESS).unwrap();
        let writer = FifoWriter::new(&path);
        let record = [b'x'; libc::PIPE_BUF];
        let mut written = 0;
        while write(&writer, &record).0 == Delivery::Written {
            written += record.len();
        }
        assert_eq!(write(&writer, b"x\n"), (Delivery::Full, 1));
        #[cfg(target_os = "linux")]
        assert_eq!(fifo.capacity_bytes(), written);

        let file = dir.join("file");
        fs::write(&file, "content").unwrap();
        let writer = FifoWriter::new(&file);
        assert_eq!(write(&writer, b"x\n").0, Delivery::Absent);
        assert_eq!(writer.probe().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(fs::read(&file).unwrap(), b"content");
    }
}
