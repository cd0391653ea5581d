//! What an event changes.
//!
//! Must not: read or write anything but through [`Sessions`].

use super::events::{Event, Kind};
use super::join::{key, SessionAt, IN_FLIGHT_MS};
use super::sessions::{Sessions, Stage, Who};
use super::Now;
use crate::stats::{place, Stats};
use crate::sys::proc::process::ticks_per_sec;

/// Services whose sessions begin with a login.
pub(super) const LOGIN_SERVICES: [&[u8]; 4] = [b"imap", b"pop3", b"submission", b"sieve"];

/// The reply to QUIT.
const CLOSING: u64 = 221;

/// How an event came, and what is wanted of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// Arguments of commands in place of their tags.
    pub(super) has_args: bool,
    /// By HTTP, perhaps from another host: processes are not of this one.
    pub(super) is_remote: bool,
}

impl Sessions {
    /// Applies an event. Returns whether anvil knows something new.
    pub(super) fn apply(&mut self, event: &Event<'_>, how: How, now: Now) -> bool {
        self.is_remote = how.is_remote;
        match event.kind {
            Kind::Auth => {
                let success = event.text("success") == b"yes";
                let place = match success {
                    true => place::auth_successes,
                    false => place::auth_failures,
                };
                self.count_auth(event, place);
                if success {
                    self.authenticated(event, now);
                }
                if success && LOGIN_SERVICES.contains(&event.service()) {
                    self.find_or_begin(event, true, now);
                }
            }
            Kind::Passdb => self.count_cache(event),
            Kind::Userdb => {
                self.count_cache(event);
                let is_login = LOGIN_SERVICES.contains(&event.service());
                if is_login && event.text("result") == b"ok" {
                    if let Some(at) = self.find_or_begin(event, true, now) {
                        return self.expect(at, event);
                    }
                }
            }
            Kind::Command | Kind::SmtpCommand => self.command(event, how.has_args, now),
            Kind::Delivery => {
                if let Some(at) = self.recipient(event, now) {
                    let usecs = event.number("duration");
                    self.ran(at, usecs, now);
                }
            }
            Kind::Hibernated => {
                if let Some(entry) = self.find(event).and_then(|at| self.get(at)) {
                    entry.hibernations = entry.hibernations.saturating_add(1);
                    entry.is_hibernated = true;
                    entry.last_event_ms = now.ms;
                }
            }
            Kind::Unhibernated => {
                if let Some(at) = self.find_or_begin(event, false, now) {
                    if let Some(entry) = self.get(at) {
                        entry.is_hibernated = false;
                        entry.last_event_ms = now.ms;
                    }
                    return self.expect(at, event);
                }
            }
            Kind::MailOpened => {
                if let Some(entry) = self.find(event).and_then(|at| self.get(at)) {
                    entry.total.values[place::mail_lookup_path] += 1;
                    entry.total.values[place::mail_read_count] += 1;
                }
            }
            Kind::Session => {
                let pid = event.number("pid");
                if let (Some(at), Ok(pid @ 1..)) =
                    (self.find_or_begin(event, true, now), pid.try_into())
                {
                    self.join.forget(&self.key(at), at);
                    self.attach(at, pid, None, now);
                }
            }
            Kind::Finished => self.finished(event, now),
            Kind::Other => {}
        }
        false
    }

    /// A mail process asked for the user: anvil will list its connection.
    fn expect(&mut self, at: SessionAt, event: &Event<'_>) -> bool {
        let is_expected = self.get(at).is_some_and(|entry| {
            entry.has_begun = true;
            let is_new = matches!(entry.stage, Stage::Held | Stage::Open);
            is_new && entry.process.is_none() && !entry.is_remote
        });
        if is_expected {
            let (key, peer) = (self.key(at), event.peer());
            self.join.login(&key, at, event.start_usecs, peer);
        }
        is_expected
    }

    fn count_auth(&mut self, event: &Event<'_>, place: usize) {
        let mut more = Stats::default();
        more.values[place] = 1;
        self.add_user(event.text("user"), event.ip(), &more);
    }

    /// The time of an authentication: a command of the session of service `auth`.
    fn authenticated(&mut self, event: &Event<'_>, now: Now) {
        let args = [event.text("user"), b" ", event.text("remote_ip")].concat();
        let mut used = Stats::default();
        used.values[place::clock_time] = event.number("duration");
        self.record_auth(&args, &used, now);
    }

    fn count_cache(&mut self, event: &Event<'_>) {
        match event.text("cache") {
            b"hit" => self.count_auth(event, place::auth_cache_hits),
            b"miss" => self.count_auth(event, place::auth_cache_misses),
            _ => {}
        }
    }

    /// The session of an event; pop3's commands have no id, submission's another one.
    fn find(&self, event: &Event<'_>) -> Option<SessionAt> {
        self.by_id(event.text("session"))
            .or_else(|| self.by_address(event.text("remote_ip"), event.text("remote_port")))
    }

    fn find_or_begin(&mut self, event: &Event<'_>, is_login: bool, now: Now) -> Option<SessionAt> {
        let id = event.text("session");
        if let Some(at) = self.by_id(id) {
            return Some(at);
        }
        let (user, service, ip) = (event.text("user"), event.service(), event.ip());
        let port = match LOGIN_SERVICES.contains(&service) {
            true => event.text("remote_port"),
            false => b"",
        };
        let who = Who {
            id,
            user,
            service,
            ip,
            port,
        };
        let key = key(user, service, event.text("remote_ip"));
        self.begin(who, key, is_login, now)
    }

    /// The session of a mail's recipient, which begins with it.
    fn recipient(&mut self, event: &Event<'_>, now: Now) -> Option<SessionAt> {
        let at = self.find_or_begin(event, false, now)?;
        let id = event.text("session");
        let entry = self.get(at)?;
        if !entry.has_user {
            entry.report.set_user(event.text("user"));
            entry.has_user = true;
        }
        if entry.process.is_none() && entry.stage == Stage::Held {
            let connection = id.split(|&byte| byte == b':').next().unwrap_or(id);
            self.attach_unseen(at, connection, now);
            self.release(at, 0, now);
        }
        Some(at)
    }

    /// A session's commands ran for so long.
    fn ran(&mut self, at: SessionAt, usecs: u64, now: Now) {
        let Some(entry) = self.get(at) else {
            return;
        };
        entry.last_event_ms = now.ms;
        entry.total.values[place::clock_time] += usecs;
        if let Some(process) = entry.process {
            self.processes.ran(process, at, usecs);
            self.processes.hurry(process, now.ms);
        }
        self.put(at, now);
    }

    fn command(&mut self, event: &Event<'_>, has_args: bool, now: Now) {
        let (service, user) = (event.service(), event.text("user"));
        if service.ends_with(b"-login") {
            return;
        }
        let is_lmtp = service == b"lmtp";
        let found = match self.find(event) {
            // Commands of a connection come before its first recipient is known.
            None if is_lmtp || !user.is_empty() && service != b"smtp" => {
                self.find_or_begin(event, false, now)
            }
            found => found,
        };
        let Some(at) = found else {
            return;
        };
        let process = self.get(at).and_then(|entry| {
            let is_over = matches!(entry.stage, Stage::Over(_));
            (!is_over).then_some(entry.process)
        });
        let Some(process) = process else {
            return;
        };
        let running = event
            .get(b"running_usecs")
            .map(|_| event.number("running_usecs"));
        let usecs = running.unwrap_or(event.number("duration"));
        if let Some(process) = process.filter(|_| !is_lmtp) {
            self.processes.ran(process, at, usecs);
            if self.processes.wants_look(process, usecs, now.ms) {
                self.look(process, Some(at), false, now);
            }
            self.processes.hurry(process, now.ms);
        }
        let Some(entry) = self.get(at) else {
            return;
        };
        (entry.last_event_ms, entry.has_begun) = (now.ms, true);
        let mut used = Stats::default();
        if !is_lmtp {
            let total = &mut entry.total.values;
            total[place::clock_time] += usecs;
            // Those of SMTP are the connection's so far.
            if event.kind == Kind::Command {
                total[place::net_in_bytes] += event.number("net_in_bytes");
                total[place::net_out_bytes] += event.number("net_out_bytes");
                total[place::lock_wait] += event.number("lock_wait_usecs");
            }
            used = entry.total.since(&entry.mark);
            entry.mark = entry.total;
        }
        used.values[place::clock_time] = usecs;
        let name = event.text("cmd_name");
        let shows_args = has_args && !has_password(name);
        let args = match event.get(b"cmd_human_args").filter(|_| shows_args) {
            Some(args) => args,
            None => event.text("cmd_tag"),
        };
        entry.report.record_command(name, args, &used);
        let is_closing = is_lmtp && event.number("status_code") == CLOSING;
        if is_closing && entry.stage != Stage::Open {
            return self.end(at, now);
        }
        self.put(at, now);
    }

    fn finished(&mut self, event: &Event<'_>, now: Now) {
        let user = event.text("user");
        let is_login = LOGIN_SERVICES.contains(&event.service());
        let found = match self.by_id(event.text("session")) {
            Some(at) => Some(at),
            None if is_login => self.find_or_begin(event, false, now),
            None if user.is_empty() => None,
            None => self.recipient(event, now),
        };
        let Some(entry) = found.and_then(|at| self.get(at)) else {
            return;
        };
        if !matches!(entry.stage, Stage::Held | Stage::Open) {
            return;
        }
        entry.last_event_ms = now.ms;
        let at = found.unwrap_or_default();
        if !entry.has_user {
            self.recipient(event, now);
        }
        let Some(entry) = self.get(at) else {
            return;
        };
        entry.last = last_figures(event);
        // The larger of this and of what its commands had.
        for (place, name) in [
            (place::net_in_bytes, "net_in_bytes"),
            (place::net_out_bytes, "net_out_bytes"),
        ] {
            let least = entry.phase.values[place].saturating_add(event.number(name));
            entry.total.values[place] = entry.total.values[place].max(least);
        }
        let may_be_found = entry.process.is_none() && entry.hibernations == 0;
        if may_be_found && self.has_anvil && self.join.ended(&self.key(at), at) {
            if let Some(entry) = self.get(at) {
                entry.stage = Stage::Ending(now.ms + IN_FLIGHT_MS);
            }
            return;
        }
        self.finish(at, now);
        let Some(entry) = self.get(at) else {
            return;
        };
        if entry.hibernations > 0 {
            entry.hibernations -= 1;
            entry.phase = entry.total;
            entry.missing_since_ms = None;
            self.forget_connection(at);
            return self.put(at, now);
        }
        let is_first = !event.text("session").contains(&b':');
        if event.service() == b"lmtp" && is_first {
            entry.stage = Stage::Lingering;
            entry.report.release(0);
            return self.put(at, now);
        }
        self.end(at, now);
    }
}

/// Whether arguments of a command contain a password.
fn has_password(name: &[u8]) -> bool {
    let mut names = ["AUTH", "AUTHENTICATE", "LOGIN", "PASS", "APOP"].iter();
    names.any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// The figures of a final event.
fn last_figures(event: &Event<'_>) -> Stats {
    let tick_usecs = 1_000_000 / ticks_per_sec();
    let mut last = Stats::default();
    for (place, name, unit) in [
        (place::user_cpu, "utime", tick_usecs),
        (place::sys_cpu, "stime", tick_usecs),
        (place::min_faults, "minor_faults", 1),
        (place::maj_faults, "major_faults", 1),
        (place::vol_cs, "vol_cs", 1),
        (place::invol_cs, "invol_cs", 1),
        (place::read_bytes, "rchar", 1),
        (place::write_bytes, "wchar", 1),
        (place::read_count, "syscr", 1),
        (place::write_count, "syscw", 1),
    ] {
        last.values[place] = event.number(name).saturating_mul(unit);
    }
    last
}

#[cfg(test)]
mod tests;
