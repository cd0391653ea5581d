//! Statistics sent to a carbon receiver, every interval.
//!
//! A report is: look the host up if it has a name, connect, write the batch in
//! slices, shut down writing, wait for the receiver to close, which means that it has
//! read everything. Each step is one wait of the poll loop for one
//! descriptor. The whole report may take an interval, at most
//! [`PATIENCE`], so there are never two at once.
//!
//! A receiver that is down, unreachable, resets, does not read or is slow costs
//! the report, one line of the log at the rate of [`Fault::CarbonFailed`], and
//! nothing else. The next interval tries again.
//!
//! Must not: wait, retry within an interval (but for further addresses of the
//! host), or keep old values for later: the next report has newer ones.

use crate::config::{HostPort, Settings};
use crate::daemon::faults::Fault;
use crate::daemon::push::batch::Batch;
use crate::daemon::push::resolve::{numeric, Lookup};
use crate::daemon::serve::context::Context;
use crate::store::Level;
use crate::store::Store;
use crate::sys::fd::poll::Interest;
use crate::sys::fs::socket::start_connect;
use crate::sys::proc::process::host_name;
use crate::sys::reason;
use crate::wire::safe_part;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The longest that a report may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that a receiver may send, in bytes. Carbon's receivers send nothing.
const MAX_RECEIVED_BYTES: usize = 4096;

/// The settings of carbon.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    server: HostPort,
    /// What paths begin with: `dovecot.NAME`.
    prefix: String,
    /// The time from one report to the next.
    interval: Duration,
    levels: Vec<Level>,
    /// Most entries of a level.
    limit: u32,
}

impl Plan {
    /// `None` without a carbon_server.
    fn of(settings: &Settings) -> Option<Plan> {
        let name = match settings.carbon_name.as_str() {
            "" => {
                let host = host_name().unwrap_or_default();
                safe_part(host.split('.').next().unwrap_or_default().as_bytes())
            }
            name => safe_part(name.as_bytes()),
        };
        Some(Plan {
            server: settings.carbon_server.clone()?,
            prefix: format!("dovecot.{name}"),
            interval: Duration::from_secs(settings.carbon_interval_secs.into()),
            levels: settings.carbon_levels.clone(),
            limit: settings.carbon_limit,
        })
    }
}

/// How far a report is.
#[derive(Debug)]
enum Step {
    /// None is under way.
    Idle,
    /// The host's name is looked up.
    LookingUp(Lookup),
    /// A connection is being made.
    Connecting(TcpStream, SocketAddr),
    /// The batch is written.
    Sending(TcpStream, Batch),
    /// All is written; the receiver is to close. It has sent so many bytes.
    Closing(TcpStream, usize),
}

#[derive(Debug)]
pub(crate) struct Carbon {
    /// What is sent; none: off.
    plan: Option<Rc<Plan>>,
    /// When the next report begins.
    due: Instant,
    /// When the one under way has to be done.
    deadline: Instant,
    /// How far that is.
    step: Step,
    /// Further addresses to try, the last one first.
    addresses: Vec<SocketAddr>,
    /// Bytes of it that were written.
    sent_bytes: usize,
}

impl Carbon {
    /// The first report comes after an interval.
    pub(crate) fn new(settings: &Settings, now: Instant) -> Carbon {
        let plan = Plan::of(settings).map(Rc::new);
        Carbon {
            due: now + plan.as_ref().map_or(PATIENCE, |plan| plan.interval),
            plan,
            deadline: now,
            step: Step::Idle,
            addresses: Vec::new(),
            sent_bytes: 0,
        }
    }

    /// Takes over new settings. If they differ, a report under way is given up.
    pub(crate) fn set(&mut self, settings: &Settings, now: Instant, store: &mut Store) {
        if Plan::of(settings).as_ref() != self.plan.as_deref() {
            self.stop(store);
            *self = Carbon::new(settings, now);
        }
    }

    pub(crate) fn waits_for(&self) -> Option<(BorrowedFd<'_>, Interest)> {
        match &self.step {
            Step::Idle => None,
            Step::LookingUp(lookup) => Some((lookup.as_fd(), Interest::READ)),
            Step::Connecting(stream, _) => Some((stream.as_fd(), Interest::WRITE)),
            Step::Sending(_, batch) if batch.output.is_empty() => None,
            Step::Sending(stream, _) => Some((stream.as_fd(), Interest::WRITE)),
            Step::Closing(stream, _) => Some((stream.as_fd(), Interest::READ)),
        }
    }

    /// When [`Carbon::serve`] has something to do by itself.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.plan.as_ref()?;
        match &self.step {
            Step::Idle => Some(self.due),
            _ => Some(self.deadline),
        }
    }

    /// Whether there is something to do without waiting.
    pub(crate) fn can_go_on(&self) -> bool {
        matches!(&self.step, Step::Sending(_, batch) if batch.output.is_empty())
    }

    /// Begins a report when it is time, and goes on with it as far as that goes
    /// without waiting.
    pub(crate) fn serve(&mut self, context: &mut Context, instant: Instant, is_ready: bool) {
        let is_due = match self.step {
            Step::Idle => instant >= self.due,
            _ => is_ready || self.can_go_on() || instant >= self.deadline,
        };
        if !is_due {
            return;
        }
        let Some(plan) = self.plan.clone() else {
            return;
        };
        if matches!(self.step, Step::Idle) {
            self.deadline = instant + plan.interval.min(PATIENCE);
            // Not due + interval: after a long sleep one report is enough.
            self.due = instant + plan.interval;
            self.sent_bytes = 0;
            self.begin(&plan, context);
        } else if is_ready || self.can_go_on() {
            self.go_on(&plan, context);
        } else {
            let step = match &self.step {
                Step::LookingUp(_) => "no answer to the name's lookup",
                Step::Connecting(..) => "no answer",
                Step::Sending(..) => "the receiver does not read",
                Step::Idle | Step::Closing(..) => {
                    "written, but the receiver neither read all of it nor closed"
                }
            };
            self.fail(&plan, context, step);
        }
    }

    /// Begins a report: by name or by address.
    fn begin(&mut self, plan: &Plan, context: &mut Context) {
        let HostPort { host, port } = &plan.server;
        match numeric(host, *port) {
            Some(address) => {
                self.addresses = vec![address];
                self.connect(plan, context, &"no address");
            }
            None => match Lookup::start(host) {
                Ok(lookup) => self.step = Step::LookingUp(lookup),
                Err(error) => self.fail(plan, context, reason(&error)),
            },
        }
    }

    /// Tries the next address; without one, fails for the reason of the last.
    fn connect(&mut self, plan: &Plan, context: &mut Context, last: &dyn Display) {
        let Some(address) = self.addresses.pop() else {
            return self.fail(plan, context, last);
        };
        match start_connect(address) {
            Ok(stream) => self.step = Step::Connecting(stream, address),
            Err(error) => self.connect(plan, context, &failed_at(address, plan, &error)),
        }
    }

    /// Goes on with a report whose descriptor is ready.
    fn go_on(&mut self, plan: &Plan, context: &mut Context) {
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Idle => {}
            Step::LookingUp(mut lookup) => match lookup.read() {
                None => self.step = Step::LookingUp(lookup),
                Some(found) => {
                    let address = |ip| SocketAddr::new(ip, plan.server.port);
                    self.addresses = found.into_iter().rev().map(address).collect();
                    self.connect(plan, context, &"no such host");
                }
            },
            Step::Connecting(stream, address) => match stream.take_error() {
                Ok(None) => {
                    let now_secs = context.now.wall.secs;
                    let batch = Batch::new(&plan.prefix, now_secs, &plan.levels, plan.limit);
                    self.send(stream, batch, plan, context);
                }
                Ok(Some(error)) | Err(error) => {
                    self.connect(plan, context, &failed_at(address, plan, &error));
                }
            },
            Step::Sending(stream, batch) => self.send(stream, batch, plan, context),
            Step::Closing(mut stream, received) => match stream.read(&mut [0; 512]) {
                Ok(0) => {}
                Ok(count) if received + count <= MAX_RECEIVED_BYTES => {
                    self.step = Step::Closing(stream, received + count);
                }
                Ok(_) => self.fail(
                    plan,
                    context,
                    "written, but the receiver sends data and does not close",
                ),
                Err(error) if goes_on(&error) => self.step = Step::Closing(stream, received),
                Err(error) => self.fail(plan, context, reason(&error)),
            },
        }
    }

    /// Makes and writes more of a batch, and shuts writing down behind its end.
    fn send(
        &mut self,
        mut stream: TcpStream,
        mut batch: Batch,
        plan: &Plan,
        context: &mut Context,
    ) {
        if batch.output.is_empty() {
            batch.make(context.store);
        }
        let written = match batch.output.is_empty() {
            true => Ok(()),
            false => stream.write(&batch.output).map(|count| {
                self.sent_bytes += count;
                batch.output.drain(..count);
            }),
        };
        let is_done = batch.is_made() && batch.output.is_empty();
        match written {
            Ok(()) if is_done => match stream.shutdown(Shutdown::Write) {
                Ok(()) => self.step = Step::Closing(stream, 0),
                Err(error) => self.fail(plan, context, reason(&error)),
            },
            Err(error) if !goes_on(&error) => {
                batch.end(context.store);
                self.fail(plan, context, reason(&error));
            }
            _ => self.step = Step::Sending(stream, batch),
        }
    }

    /// Gives a report up and logs why.
    fn fail(&mut self, plan: &Plan, context: &mut Context, why: impl Display) {
        self.stop(context.store);
        let (server, sent) = (&plan.server, self.sent_bytes);
        context.report(Fault::CarbonFailed, || {
            format!("{server}: {why} ({sent} bytes were written)")
        });
    }

    /// Releases everything that a report under way keeps.
    fn stop(&mut self, store: &mut Store) {
        if let Step::Sending(_, batch) = std::mem::replace(&mut self.step, Step::Idle) {
            batch.end(store);
        }
        self.addresses.clear();
    }
}

/// Whether an error only means to try again later.
fn goes_on(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Why one of the server's addresses failed. The log names the server already, so an
/// address that is the server's own text is left out.
fn failed_at(address: SocketAddr, plan: &Plan, error: &io::Error) -> String {
    match address.to_string() == plan.server.to_string() {
        true => reason(error),
        false => format!("{address}: {}", reason(error)),
    }
}
