//! Commands among those of their name, and what is counted when one is over.
//!
//! A command is over when its writer reports that it is done, when another command of its
//! session begins, or when its session ends; also when it is freed before. At that moment how
//! long it took counts: what the server worked (clock_time), not what it waited for the
//! client.
//!
//! Invariant: a command that is over has [`Flag::Over`], and its time was counted once.

use crate::stats::Stats;
use crate::store::counters::packed;
use crate::store::entries::entry::{Command, Flag};
use crate::store::entries::table::{key, rest};
use crate::store::kinds::slow::{cut, SlowCommand, SlowLimit};
use crate::store::kinds::{CmdId, ServiceId};
use crate::store::mem::arena::Link;
use crate::store::row::address;
use crate::store::time::Now;
use crate::store::Store;

impl Store {
    /// Counts a command that begins among those of its name.
    #[inline(always)]
    pub(crate) fn count_kind(
        &mut self,
        service: ServiceId,
        name: &[u8],
        stats: &Stats,
        now: Now,
    ) -> Option<CmdId> {
        let kind = self
            .kinds
            .cmd(&mut self.memory.budget, service, name, now)?;
        self.kinds.count_cmd(kind, stats, true, now);
        Some(kind)
    }

    /// The kind of a command, if it is counted there.
    #[inline(always)]
    pub(crate) fn kind_of(&self, link: Link<Command>) -> Option<CmdId> {
        CmdId::of_chain(&self.commands.arena[link].common.chain)
    }

    pub(crate) fn is_over(&self, link: Link<Command>) -> bool {
        self.commands.arena[link].common.stamp.has(Flag::Over)
    }

    /// Ends a command, unless it is over.
    #[inline(always)]
    pub(crate) fn end_command(&mut self, link: Link<Command>) {
        let common = &mut self.commands.arena[link].common;
        if common.stamp.has(Flag::Over) {
            return;
        }
        common.stamp.set(Flag::Over, true);
        let contents = common.contents;
        let clock_usecs = packed::clock_usecs(contents.packed(&self.memory.heap));
        self.count_over(Some(link), self.kind_of(link), clock_usecs);
    }

    /// Counts how long a command took; without a link one that there is no room for.
    #[inline(always)]
    pub(crate) fn count_over(
        &mut self,
        link: Option<Link<Command>>,
        kind: Option<CmdId>,
        clock_usecs: u64,
    ) {
        if let Some(CmdId(place)) = kind {
            self.kinds.cmds[usize::from(place)].latency.add(clock_usecs);
        }
        if let (Some(limit), Some(link)) = (self.slow.passed(clock_usecs), link) {
            self.note_slow(link, limit);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_slow(&mut self, link: Link<Command>, limit: SlowLimit) {
        let command = &self.commands.arena[link];
        let session = &self.sessions.arena[command.session];
        let heap = &self.memory.heap;
        let ip = session.above.ip;
        self.slow.note(|| SlowCommand {
            last_update: command.common.stamp.wall(),
            user: cut(key(heap, &self.users.arena[session.user()])),
            session: cut(key(heap, session)),
            ip: ip.map(|ip| address(key(heap, &self.ips.arena[ip]))),
            service: cut(rest(heap, session)),
            name: cut(key(heap, command)),
            args: limit.with_args.then(|| cut(rest(heap, command))),
            stats: command.common.contents.counters(heap).stats,
        });
    }

    /// Ends the last command of a session.
    #[inline(always)]
    pub(crate) fn end_last_command(&mut self, last: Option<Link<Command>>) {
        if let Some(last) = last {
            self.end_command(last);
        }
    }
}
