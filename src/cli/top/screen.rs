//! The full screen: one poll(2) loop over keys, signals, servers and the time.
//!
//! Owns: the terminal, from entering it to giving it back, and what is still to
//! be written to it. Invariants: nothing waits but poll(2). A frame is begun
//! only when the one before has gone out, so a slow line sees fewer frames, not
//! old ones. In the background, or stopped, nothing is drawn or read.

use super::data::link::Link;
use super::kick::Job;
use super::ui::draw::Painter;
use super::ui::glyphs::{Glyphs, ASCII, UNICODE};
use super::ui::paint::paint;
use super::ui::scene::Scene;
use super::view::{Effect, Mode, View};
use super::{has_colors, is_utf8_locale};
use crate::cli::args::TopOptions;
use crate::cli::top::keys::Keys;
use crate::cli::top::view::rows::Lines;
use crate::config::Fatal;
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::local_time::LocalTime;
use crate::sys::proc::signal::Signals;
use crate::sys::reason;
use crate::sys::terminal::{self, Size, Terminal};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest time between an ESC and the bytes that belong to it.
const ESC_TIME: Duration = Duration::from_millis(40);
/// The longest that the screen stays as it is: the clock goes on.
const STILL: Duration = Duration::from_secs(1);
/// How long a message is shown.
const MESSAGE_TIME: Duration = Duration::from_secs(3);
/// After a first sample the second is not waited for as long as for others, so
/// that there are rates soon.
const SOON: Duration = Duration::from_millis(500);
/// What a terminal that does not know its size is taken for.
const USUAL_SIZE: Size = Size {
    rows: 24,
    columns: 80,
};

struct Screen {
    view: View,
    link: Link,
    terminal: Terminal,
    painter: Painter,
    /// The signs it can show.
    glyphs: &'static Glyphs,
    keys: Keys,
    /// When a lone ESC becomes a key.
    esc_until: Option<Instant>,
    /// When the message goes.
    message_until: Option<Instant>,
    /// When it was paused, in microseconds since 1970: ages stand still.
    paused_micros: Option<u64>,
    /// A command that was agreed to.
    job: Option<Job>,
    /// Bytes on their way to the terminal.
    out: Vec<u8>,
    /// Bytes of these that are written.
    written: usize,
    next_ask: Instant,
    /// When the screen was drawn.
    drawn: Option<Instant>,
    dirty: bool,
    /// In the background: another process has the terminal.
    suspended: bool,
    frames: Option<u64>,
}

/// Runs until its user leaves; gives the view as it was then.
pub(super) fn run(options: &TopOptions, view: View) -> Result<View, Fatal> {
    let now = Instant::now();
    let signals = Signals::install_for_screen().map_err(Fatal::io("signal handlers"))?;
    let terminal = Terminal::open().map_err(Fatal::io("terminal"))?;
    let link =
        Link::new(&options.servers, view.question(), now).map_err(Fatal::io("socket pair"))?;
    terminal.enter().map_err(Fatal::io("terminal"))?;
    let mut screen = Screen {
        next_ask: now + view.delay,
        view,
        link,
        terminal,
        painter: Painter::new(has_colors()),
        glyphs: if is_utf8_locale() { &UNICODE } else { &ASCII },
        keys: Keys::default(),
        esc_until: None,
        message_until: None,
        paused_micros: None,
        job: None,
        out: Vec::new(),
        written: 0,
        drawn: None,
        dirty: true,
        suspended: false,
        frames: options.frames,
    };
    screen.run(&signals).map_err(Fatal::io("terminal"))?;
    Ok(screen.view)
}

impl Screen {
    fn run(&mut self, signals: &Signals) -> io::Result<()> {
        let mut set = PollSet::new();
        loop {
            let now = Instant::now();
            if self.frames == Some(0) {
                return Ok(());
            }
            self.be_on_time(now)?;
            set.clear();
            let signal_slot = set.push(signals.as_fd(), Interest::READ);
            let wake_slot = set.push(self.link.wake(), Interest::READ);
            let (mut input_slot, mut output_slot) = (None, None);
            if !self.suspended {
                input_slot = Some(set.push(self.terminal.input(), Interest::READ));
                if !self.out.is_empty() {
                    output_slot = Some(set.push(self.terminal.output(), Interest::WRITE));
                }
            }
            let push = |(index, fd)| (index, set.push(fd, Interest::READ));
            let connections: Vec<(usize, usize)> = self.link.connections().map(push).collect();
            set.wait(Some(self.deadline(now).saturating_duration_since(now)))?;

            let now = Instant::now();
            if set.ready(signal_slot).readable && self.take_signals(signals)? {
                return Ok(());
            }
            if input_slot.is_some_and(|slot| set.ready(slot).readable) && self.read_keys(now)? {
                return Ok(());
            }
            if output_slot.is_some_and(|slot| set.ready(slot).writable) {
                self.write()?;
            }
            if set.ready(wake_slot).readable {
                self.link.take_connections(now);
                if let Some(lines) = self.job.as_ref().and_then(Job::result) {
                    self.job = None;
                    self.view.message.clear();
                    self.view.mode = Mode::Report(lines, 0);
                }
                self.dirty = true;
            }
            for (index, slot) in connections {
                if set.ready(slot).readable {
                    self.read_server(index, now);
                }
            }
            // After a stop, what came meanwhile has to be read first.
            if !set.ready(signal_slot).readable {
                self.link.give_up_silent(now);
            }
        }
    }

    /// Does what is due, and draws when there is something new to see.
    fn be_on_time(&mut self, now: Instant) -> io::Result<()> {
        self.link.connect(now);
        if self.esc_until.is_some_and(|until| until <= now) {
            self.esc_until = None;
            if let Some(key) = self.keys.flush() {
                self.press(key, now);
            }
        }
        if self.message_until.is_some_and(|until| until <= now) {
            self.message_until = None;
            self.view.message.clear();
            self.dirty = true;
        }
        if self.next_ask <= now && !self.view.paused {
            self.link.ask(now);
            let next = self.next_ask + self.view.delay;
            self.next_ask = if next > now {
                next
            } else {
                now + self.view.delay
            };
        }
        if self.suspended && self.terminal.is_foreground() {
            self.terminal.enter()?;
            self.painter.invalidate();
            self.suspended = false;
            self.dirty = true;
        }
        let still = self.drawn.is_none_or(|drawn| now - drawn >= STILL);
        if (self.dirty || still) && self.out.is_empty() && !self.suspended {
            self.draw(now)?;
        }
        Ok(())
    }

    /// When something is due next.
    fn deadline(&self, now: Instant) -> Instant {
        let ask = (!self.view.paused).then_some(self.next_ask);
        // Overdue while the terminal is not ours or takes nothing: look again
        // after as long, instead of spinning.
        let still = self.drawn.map(|drawn| match drawn + STILL {
            due if due > now => due,
            _ => now + STILL,
        });
        let times = [
            ask,
            still,
            self.esc_until,
            self.message_until,
            self.link.deadline(),
        ];
        times.into_iter().flatten().min().unwrap_or(self.next_ask)
    }

    /// Draws the screen as it is now.
    fn draw(&mut self, now: Instant) -> io::Result<()> {
        let wall = SystemTime::now();
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let LocalTime {
            hour,
            minute,
            second,
            ..
        } = LocalTime::at(wall);
        let now_micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        self.paused_micros = match self.view.paused {
            true => self.paused_micros.or(Some(now_micros)),
            false => None,
        };
        let scene = Scene {
            lines: Lines(&self.link),
            now,
            now_micros: self.paused_micros.unwrap_or(now_micros),
            clock: format!("{hour:02}:{minute:02}:{second:02}"),
            glyphs: self.glyphs,
        };
        let size = self.terminal.size().unwrap_or(USUAL_SIZE);
        let frame = paint(&mut self.view, &scene, size);
        self.painter.paint(frame, &mut self.out);
        self.drawn = Some(now);
        self.dirty = false;
        self.write()
    }

    /// Writes what the terminal takes.
    fn write(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.terminal.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads keys and does what they ask for. True: leave.
    fn read_keys(&mut self, now: Instant) -> io::Result<bool> {
        let mut bytes = [0; 1024];
        match self.terminal.read(&mut bytes) {
            // The terminal is gone.
            Ok(0) => return Ok(true),
            Ok(count) => self.keys.feed(&bytes[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Ok(false),
                _ => return Ok(true),
            },
        }
        while let Some(key) = self.keys.next() {
            if self.press(key, now) {
                return Ok(true);
            }
        }
        self.esc_until = self.keys.is_waiting().then(|| now + ESC_TIME);
        Ok(false)
    }

    /// Does what a key asks for. True: leave.
    fn press(&mut self, key: super::keys::Key, now: Instant) -> bool {
        self.dirty = true;
        let effect = self.view.press(key, &Lines(&self.link));
        self.link
            .count_sessions(self.view.question().counts_sessions);
        let has_message = !self.view.message.is_empty();
        self.message_until = has_message.then(|| now + MESSAGE_TIME);
        match effect {
            Effect::Draw => {}
            Effect::Kick => {
                let kick = self.view.kick.take();
                if self.job.is_some() {
                    self.view.message = "the last doveadm kick has not ended yet".to_owned();
                } else if let Some(kick) = kick {
                    // Shown until it has ended, or a key is pressed.
                    self.message_until = None;
                    match Job::start(kick, self.link.waker()) {
                        Ok(job) => self.job = Some(job),
                        Err(error) => {
                            self.view.message = format!("run doveadm: {}", reason(&error));
                        }
                    }
                }
            }
            Effect::Quit => return true,
            Effect::Ask => {
                self.link.change(self.view.question(), now);
                self.next_ask = now + self.view.delay;
            }
            Effect::Hurry => self.next_ask = now,
            Effect::Watch => {
                for server in &mut self.link.servers {
                    server.table.clear_sparks();
                }
            }
        }
        false
    }

    fn read_server(&mut self, index: usize, now: Instant) {
        let was_up = self.link.servers[index].is_up();
        if self.link.read(index, self.view.window(), now) {
            self.link
                .spark(index, self.view.look(), self.view.watched());
            self.dirty = true;
            if !self.link.servers[index].table.has_rates() {
                self.next_ask = self.next_ask.min(now + SOON.min(self.view.delay));
            } else if let Some(frames) = &mut self.frames {
                *frames = frames.saturating_sub(1);
            }
        }
        self.dirty |= self.link.servers[index].is_up() != was_up;
    }

    /// Does what signals ask for. True: leave.
    fn take_signals(&mut self, signals: &Signals) -> io::Result<bool> {
        let came = signals.take();
        if came.term || came.int || came.hup || came.quit {
            return Ok(true);
        }
        if came.tstp && !self.suspended {
            self.suspended = true;
            // What is half written would end up on the user's screen.
            self.out.clear();
            self.written = 0;
            terminal::leave();
            signals.stop()?;
        } else if came.cont {
            // After SIGSTOP another program may have changed the terminal.
            self.suspended = true;
        }
        self.dirty |= came.winch;
        Ok(false)
    }
}
