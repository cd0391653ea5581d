use super::*;
use crate::store::testing::Random;
use std::collections::BTreeMap;

/// Processes that have used what the test says: when they started, and their figures.
#[derive(Default)]
struct Told(BTreeMap<u32, (u64, Stats)>);

impl Told {
    /// A process that started so many ticks after the system did.
    fn start(&mut self, pid: u32, ticks: u64, bytes: u64) {
        self.0.insert(pid, (ticks, stats(bytes)));
    }

    fn uses(&mut self, pid: u32, bytes: u64) {
        self.0.get_mut(&pid).unwrap().1.add(&stats(bytes));
    }
}

impl Figures for Told {
    fn look(&mut self, pid: u32, sample: &mut Sample) -> Look {
        match self.0.get(&pid) {
            Some((ticks, _)) if ![0, *ticks].contains(&sample.start_ticks) => Look::Gone,
            Some((ticks, stats)) if sample.start_ticks == *ticks && sample.stats == *stats => {
                Look::Same
            }
            Some((ticks, stats)) => {
                (sample.start_ticks, sample.stats) = (*ticks, *stats);
                Look::Changed
            }
            None => Look::Gone,
        }
    }

    fn started_usecs(&mut self, sample: &Sample) -> u64 {
        sample.start_ticks * 10_000
    }

    fn peers(&mut self, _pids: &[u32]) -> Vec<(u32, SocketAddr)> {
        Vec::new()
    }
}

fn stats(bytes: u64) -> Stats {
    let mut stats = Stats::default();
    stats.values[place::read_bytes] = bytes;
    stats.values[place::user_cpu] = 3 * bytes;
    stats
}

/// Bytes by session.
#[derive(Default)]
struct Shares(BTreeMap<SessionAt, Stats>);

impl Shares {
    fn add(&mut self, session: SessionAt, more: &Stats) {
        self.0.entry(session).or_default().add(more);
    }

    fn bytes(&self, session: SessionAt) -> u64 {
        let stats = self.0.get(&session);
        stats.map_or(0, |stats| stats.values[place::read_bytes])
    }
}

struct Scene {
    told: Told,
    shares: Shares,
    processes: Processes,
}

impl Scene {
    fn new() -> Scene {
        Scene {
            told: Told::default(),
            shares: Shares::default(),
            processes: Processes::new(1000),
        }
    }

    fn attach(
        &mut self,
        pid: u32,
        session: SessionAt,
        fresh_for: Option<u64>,
    ) -> Option<(ProcessAt, Stats)> {
        let share = &mut |session, more: &Stats| self.shares.add(session, more);
        self.processes
            .attach(pid, session, fresh_for, &mut self.told, 0, share)
    }

    fn look(&mut self, at: ProcessAt, is_ending: bool) -> Look {
        let share = &mut |session, more: &Stats| self.shares.add(session, more);
        self.processes.look(at, &mut self.told, 0, is_ending, share)
    }

    fn finish(&mut self, at: ProcessAt, session: SessionAt, base: &Stats, last: &Stats) {
        self.look(at, true);
        let share = &mut |session, more: &Stats| self.shares.add(session, more);
        self.processes.finish(at, base, last, share);
        self.processes.detach(at, session, 0);
    }
}

#[test]
fn a_process_of_its_own_is_the_sessions_from_its_start() {
    let mut scene = Scene::new();
    scene.told.start(7, 100, 50);
    // Half a second after its start, and a day.
    let (at, base) = scene.attach(7, 1, Some(1_500_000)).unwrap();
    assert_eq!((scene.shares.bytes(1), base), (50, Stats::default()));
    scene.told.uses(7, 5);
    scene.finish(at, 1, &base, &stats(30));
    assert_eq!(scene.shares.bytes(1), 55, "the larger");
    scene.told.start(8, 100, 50);
    let (at, base) = scene.attach(8, 2, Some(86_400_000_000)).unwrap();
    assert_eq!((scene.shares.bytes(2), base), (0, stats(50)));
    scene.told.uses(8, 5);
    scene.finish(at, 2, &base, &stats(9));
    assert_eq!(
        scene.shares.bytes(2),
        9,
        "it had begun before the first look"
    );
    assert!(scene.attach(9, 3, None).is_none(), "no such process");
}

#[test]
fn sessions_one_after_the_other_add_up_to_the_process() {
    let mut scene = Scene::new();
    scene.told.start(7, 100, 50);
    let (at, base) = scene.attach(7, 1, Some(1_500_000)).unwrap();
    scene.told.uses(7, 5);
    scene.finish(at, 1, &base, &Stats::default());
    // Between two sessions: the next one's.
    scene.told.uses(7, 20);
    let (again, base) = scene.attach(7, 2, Some(1_600_000)).unwrap();
    assert_eq!((again, base), (at, stats(55)));
    scene.told.uses(7, 1);
    scene.finish(at, 2, &base, &stats(1));
    assert_eq!([1, 2].map(|session| scene.shares.bytes(session)), [55, 21]);
}

#[test]
fn a_number_that_came_again_is_another_process() {
    let mut scene = Scene::new();
    scene.told.start(7, 100, 50);
    let (old, base) = scene.attach(7, 1, Some(1_500_000)).unwrap();
    // Gone without being looked at in between.
    scene.told.start(7, 900, 1000);
    assert_eq!(scene.look(old, false), Look::Gone);
    let (new, _) = scene.attach(7, 2, Some(9_500_000)).unwrap();
    assert_ne!(new, old);
    assert_eq!(
        [1, 2].map(|session| scene.shares.bytes(session)),
        [50, 1000]
    );
    // The last event of the first one comes late.
    scene.finish(old, 1, &base, &stats(60));
    assert_eq!(
        [1, 2].map(|session| scene.shares.bytes(session)),
        [60, 1000]
    );
    // Without a look either.
    scene.told.start(7, 2000, 10);
    let (newest, _) = scene.attach(7, 3, Some(20_500_000)).unwrap();
    assert_ne!(newest, new);
    assert_eq!(scene.shares.bytes(3), 10);
}

#[test]
fn sessions_at_once_share_by_the_time_that_their_commands_ran() {
    let mut scene = Scene::new();
    scene.told.start(7, 100, 0);
    let (at, base) = scene.attach(7, 1, Some(1_500_000)).unwrap();
    scene.attach(7, 2, None).unwrap();
    scene.told.uses(7, 100);
    scene.look(at, false);
    assert_eq!(
        scene.shares.bytes(1) + scene.shares.bytes(2),
        0,
        "not known whose"
    );
    scene.processes.ran(at, 1, 300);
    scene.processes.ran(at, 2, 100);
    scene.look(at, false);
    assert_eq!([1, 2].map(|session| scene.shares.bytes(session)), [75, 25]);
    // All of a final event is the process's: it counts once.
    scene.told.uses(7, 40);
    scene.finish(at, 1, &base, &stats(140));
    assert_eq!([1, 2].map(|session| scene.shares.bytes(session)), [95, 45]);
    scene.finish(at, 2, &base, &stats(140));
    assert_eq!([1, 2].map(|session| scene.shares.bytes(session)), [95, 45]);
}

#[test]
fn recipients_of_one_mail_share_what_their_events_say() {
    // As recorded: the second recipient's session ends first, and lies in the first's.
    let mut scene = Scene::new();
    let at = scene.processes.attach_unseen(b"X", 1, 0);
    assert_eq!(scene.processes.attach_unseen(b"X", 2, 0), at);
    assert_ne!(scene.processes.attach_unseen(b"Y", 3, 0), at);
    scene.processes.ran(at, 1, 5553);
    scene.processes.ran(at, 2, 2022);
    scene.finish(at, 2, &Stats::default(), &stats(133));
    scene.finish(at, 1, &Stats::default(), &stats(304));
    assert_eq!(scene.shares.bytes(1) + scene.shares.bytes(2), 304);
    assert_eq!(scene.shares.bytes(2), 133 - 133 * 5553 / 7575);
    assert_eq!(scene.shares.bytes(3), 0);
}

#[test]
fn an_idle_process_is_looked_at_less_and_less_often() {
    let mut scene = Scene::new();
    scene.told.start(7, 100, 0);
    // Looks before its session is known count for nothing.
    for _ in 0..9 {
        scene.processes.sight(7, None, &mut scene.told, 0).unwrap();
    }
    let (at, _) = scene.attach(7, 1, None).unwrap();
    let mut looks = Vec::new();
    let due = |scene: &mut Scene, until: u64, looks: &mut Vec<u64>| {
        let from = looks.last().map_or(0, |last| last + 1);
        for ms in from..until {
            if scene.processes.visit(at, ms) {
                looks.push(ms);
                let share = &mut |_, _: &Stats| {};
                scene.processes.look(at, &mut scene.told, ms, false, share);
            }
        }
    };
    due(&mut scene, 130_000, &mut looks);
    assert_eq!(
        looks,
        [1000, 3000, 7000, 15_000, 31_000, 61_000, 91_000, 121_000]
    );
    // An event names one of its sessions.
    scene.processes.hurry(at, 130_000);
    due(&mut scene, 140_000, &mut looks);
    assert_eq!(looks[8..], [131_000, 133_000, 137_000]);
    scene.told.uses(7, 1);
    due(&mut scene, 150_000, &mut looks);
    assert_eq!(looks[11..], [145_000, 146_000, 148_000]);
}

#[test]
fn whatever_happens_the_sums_are_those_of_processes() {
    let mut random = Random::seeded("whatever_happens_the_sums_are_those_of_processes");
    for _ in 0..300 {
        let mut scene = Scene::new();
        scene.told.start(7, 100, random.below(100));
        let mut members: Vec<(SessionAt, Stats)> = Vec::new();
        let (mut at, mut first) = (0, None);
        for session in 0..40 {
            match random.below(5) {
                0 | 1 => {
                    let fresh = members.is_empty() && session == 0;
                    let found = scene.attach(7, session, Some(1_500_000).filter(|_| fresh));
                    let (place, base) = found.unwrap();
                    at = place;
                    first.get_or_insert(base);
                    members.push((session, base));
                }
                2 if !members.is_empty() => {
                    let (member, base) =
                        members.swap_remove(random.below(members.len() as u64) as usize);
                    let mut last = scene.told.0[&7].1.since(&base);
                    last.values[place::read_bytes] -=
                        last.values[place::read_bytes].min(random.below(3));
                    scene.finish(at, member, &base, &last);
                }
                3 => {
                    if let Some((member, _)) = members.first() {
                        scene.processes.ran(at, *member, random.below(1000));
                        scene.look(at, false);
                    }
                }
                _ => {}
            }
            scene.told.uses(7, random.below(1000));
        }
        if members.is_empty() {
            continue;
        }
        scene.look(at, true);
        let expected = scene.told.0[&7].1.since(&first.unwrap());
        let sum = |scene: &Scene| {
            let mut sum = Stats::default();
            scene.shares.0.values().for_each(|stats| sum.add(stats));
            sum
        };
        assert_eq!(sum(&scene), expected);
        scene.look(at, true);
        assert_eq!(sum(&scene), expected, "nothing twice");
    }
}

#[test]
fn processor_time_that_is_divided_otherwise_is_not_counted_twice() {
    let stats = |user: u64, sys: u64| {
        let mut stats = Stats::default();
        stats.values[place::user_cpu] = user;
        stats.values[place::sys_cpu] = sys;
        stats
    };
    for (now, seen, more) in [
        ((6214, 16278), (0, 22492), (0, 0)),
        ((6214, 17278), (0, 22492), (1000, 0)),
        ((0, 23492), (6214, 16278), (0, 1000)),
        ((7000, 17000), (6000, 16000), (1000, 1000)),
        ((1, 1), (2, 2), (0, 0)),
    ] {
        let found = growth(&stats(now.0, now.1), &stats(seen.0, seen.1));
        assert_eq!(found, stats(more.0, more.1), "{now:?} {seen:?}");
    }
}

#[test]
fn short_commands_share_a_look() {
    let mut told = Told::default();
    told.start(7, 1, 100);
    let mut processes = Processes::new(1000);
    let at = processes.sight(7, None, &mut told, 5000).unwrap();
    assert!(!processes.wants_look(at, SHORT_USECS - 1, 5000 + LEAST_WAIT_MS - 1));
    assert!(processes.wants_look(at, SHORT_USECS - 1, 5000 + LEAST_WAIT_MS));
    assert!(processes.wants_look(at, SHORT_USECS, 5000));
    // The next one is a while after this.
    processes.look(at, &mut told, 6000, false, &mut |_, _| {});
    assert!(!processes.wants_look(at, 0, 6000 + LEAST_WAIT_MS - 1));
}
