use super::*;
use crate::store::testing::Random;
use std::collections::HashSet;

const SECOND: u64 = 1_000_000;

fn guid(usecs: u64, pid: u32) -> Guid {
    let parts = [
        (usecs % SECOND * 1000) as u32,
        (usecs / SECOND) as u32,
        pid,
        7,
    ];
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    bytes.try_into().unwrap()
}

fn connection(usecs: u64, pid: u32) -> Connection {
    Connection {
        guid: guid(usecs, pid),
        pid,
    }
}

fn at(ms: u64) -> Now {
    Now {
        ms,
        usecs: 1000 * SECOND + ms * 1000,
    }
}

/// What is handed out: sessions, and the processes of their connections.
fn settled(join: &mut Join, reply: u64, now: Now) -> Vec<(Option<SessionAt>, u32)> {
    let mut found = Vec::new();
    join.settle(reply, now, |_, session, connection| {
        found.push((session, connection.pid))
    });
    found
}

#[test]
fn the_kth_connection_is_the_kth_login() {
    let (mut join, key) = (Join::default(), key(b"bob", b"imap", b"::1"));
    let begin = at(0).usecs;
    join.login(&key, 1, begin, None);
    join.login(&key, 2, begin + 7000, None);
    join.login(&key, 2, begin + 7500, None);
    // Listed in any order, and the same one again.
    join.connection(&key, connection(begin + 8000, 20), 1, at(150));
    assert!(
        settled(&mut join, 1, at(150)).is_empty(),
        "one login has none yet"
    );
    join.connection(&key, connection(begin + 8000, 20), 2, at(160));
    join.connection(&key, connection(begin + 1000, 10), 2, at(160));
    assert_eq!(
        settled(&mut join, 2, at(160)),
        [(Some(1), 10), (Some(2), 20)]
    );
    assert!(!join.is_waiting());
}

#[test]
fn connections_of_a_moment_ago_wait_for_events_in_flight() {
    let (mut join, key) = (Join::default(), key(b"bob", b"imap", b"::1"));
    let begin = at(0).usecs;
    join.login(&key, 1, begin, None);
    for (reply, ms, found) in [(1, 99, 0), (2, 100, 0), (3, 101, 1)] {
        join.connection(&key, connection(begin + 1000, 10), reply, at(ms));
        assert_eq!(settled(&mut join, reply, at(ms)).len(), found, "{ms}");
    }
}

#[test]
fn keys_do_not_mix_and_the_forgotten_is_gone() {
    let mut join = Join::default();
    let keys = [
        key(b"a", b"imap", b""),
        key(b"a", b"pop3", b""),
        key(b"a", b"imap", b"::1"),
    ];
    for (session, key) in keys.iter().enumerate() {
        join.login(key, session as SessionAt, at(0).usecs, None);
    }
    assert!(join.expects(&keys[0]));
    join.forget(&keys[0], 0);
    assert!(!join.expects(&keys[0]));
    join.connection(&keys[1], connection(at(0).usecs, 5), 1, at(100));
    assert_eq!(settled(&mut join, 1, at(100)), [(Some(1), 5)]);
    join.forget(&keys[2], 2);
    assert!(!join.is_waiting());
}

#[test]
fn a_session_too_short_to_be_listed_takes_no_other_ones_connection() {
    let (mut join, key) = (Join::default(), key(b"bob", b"imap", b"::1"));
    let begin = at(0).usecs;
    // The first is over before anvil is asked; its last event is still to come.
    join.login(&key, 1, begin, None);
    // The second's lookup is still to come, too.
    join.connection(&key, connection(begin + 30_000, 20), 1, at(61));
    assert!(settled(&mut join, 1, at(61)).is_empty());
    join.login(&key, 2, begin + 29_000, None);
    join.connection(&key, connection(begin + 30_000, 20), 2, at(140));
    assert!(settled(&mut join, 2, at(140)).is_empty(), "one is too many");
    assert!(join.ended(&key, 1));
    join.connection(&key, connection(begin + 30_000, 20), 3, at(170));
    assert_eq!(settled(&mut join, 3, at(170)), [(Some(2), 20)]);
    assert_eq!(join.forget(&key, 1), None);
    assert!(!join.ended(&key, 1) && !join.is_waiting());
}

#[test]
fn a_session_that_ended_gets_the_only_connection_that_can_be_its_own() {
    let (mut join, key) = (Join::default(), key(b"bob", b"imap", b"::1"));
    let begin = at(0).usecs;
    join.login(&key, 1, begin, None);
    join.connection(&key, connection(begin + 1000, 10), 1, at(40));
    assert!(settled(&mut join, 1, at(40)).is_empty());
    assert!(join.ended(&key, 1));
    assert!(
        settled(&mut join, 2, at(140)).is_empty(),
        "not listed any more"
    );
    assert_eq!(join.forget(&key, 1), Some(connection(begin + 1000, 10)));
    // Two sessions near each other, one of which was seen.
    join.login(&key, 2, begin, None);
    join.login(&key, 3, begin + 5000, None);
    join.connection(&key, connection(begin + 6000, 20), 3, at(40));
    assert_eq!(join.forget(&key, 2), None);
    // Made before the lookup.
    join.login(&key, 4, begin + 7000, None);
    assert_eq!(join.forget(&key, 4), None);
}

#[test]
fn patience_has_an_end() {
    let (mut join, key) = (Join::default(), key(b"bob", b"imap", b"::1"));
    let begin = at(0).usecs;
    for session in 1..=3 {
        join.login(&key, session, begin + u64::from(session) * 10_000, None);
    }
    // The second's last event was lost.
    for (reply, ms) in [(1, 200), (2, 199 + PATIENCE_MS), (3, 200 + PATIENCE_MS)] {
        join.connection(&key, connection(begin + 11_000, 10), reply, at(ms));
        join.connection(&key, connection(begin + 31_000, 30), reply, at(ms));
        let found = settled(&mut join, reply, at(ms));
        match reply {
            3 => assert_eq!(found, [(Some(1), 10), (Some(3), 30)]),
            _ => assert!(found.is_empty()),
        }
    }
    join.forget(&key, 2);
    // A lookup that was lost: the oldest connection has no login.
    join.login(&key, 5, begin + 2_999_000, None);
    for (reply, ms) in [(4, 4000), (5, 4000 + PATIENCE_MS)] {
        join.connection(&key, connection(begin + 2_000_000, 40), reply, at(ms));
        join.connection(&key, connection(begin + 3_000_000, 50), reply, at(ms));
        let found = settled(&mut join, reply, at(ms));
        match reply {
            5 => assert_eq!(found, [(None, 40), (Some(5), 50)]),
            _ => assert!(found.is_empty()),
        }
    }
    // One that anvil lists no more is not waited for.
    join.connection(&key, connection(begin, 60), 6, at(9000));
    assert!(settled(&mut join, 6, at(8000)).is_empty());
    assert!(settled(&mut join, 7, at(9200)).is_empty());
    assert!(!join.is_waiting());
}

/// A session of a storm: moments in milliseconds.
struct Stormy {
    user: usize,
    lookup: u64,
    begin: u64,
    over: u64,
    /// When the bridge has its login, and its last event.
    known: u64,
    ended: u64,
}

/// 200 logins of 3 users at one address, some of sessions that are over before anvil
/// is asked; events take up to 60 ms.
#[test]
fn storms_of_logins_are_joined_without_one_wrong() {
    let mut random = Random::seeded("storms_of_logins_are_joined_without_one_wrong");
    let mut seen = 0;
    for _ in 0..200 {
        let (mut lookup, mut known, mut sessions) = (0, 0, Vec::new());
        for _ in 0..200 {
            lookup += random.below(6);
            let begin = lookup + 1 + random.below(2);
            let over = begin
                + match random.below(5) {
                    0 => 2 + random.below(60),
                    _ => 20_000,
                };
            // Those of auth stay in order.
            known = (lookup + random.below(60)).max(known);
            sessions.push(Stormy {
                user: random.below(3) as usize,
                lookup,
                begin,
                over,
                known,
                ended: (over + random.below(60)).max(known),
            });
        }
        // The order of connections of a key is that of its lookups.
        let mut last = [0; 3];
        for session in &mut sessions {
            session.begin = session.begin.max(last[session.user]);
            session.over = session.over.max(session.begin);
            last[session.user] = session.begin;
        }
        let keys = [&b"a"[..], b"b", b"c"].map(|user| key(user, b"imap", b"192.0.2.1"));
        let (mut join, mut met) = (Join::default(), HashSet::new());
        for ms in 0..lookup + 4000 {
            for (number, session) in (0..).zip(&sessions) {
                let key = &keys[session.user];
                if session.known == ms {
                    join.login(key, number, at(session.lookup).usecs, None);
                }
                if session.ended == ms {
                    join.ended(key, number);
                }
                if session.ended + IN_FLIGHT_MS == ms {
                    if let Some(found) = join.forget(key, number) {
                        assert_eq!(found.pid, number);
                        assert!(met.insert(number));
                    }
                }
            }
            if ms % 30 != 0 {
                continue;
            }
            for (number, session) in (0..).zip(&sessions) {
                let is_listed = (session.begin..session.over).contains(&ms);
                if is_listed && !met.contains(&number) {
                    // Within a millisecond the order is that of lookups, too.
                    let usecs = at(session.begin).usecs + u64::from(number);
                    join.connection(&keys[session.user], connection(usecs, number), ms, at(ms));
                }
            }
            for (found, pid) in settled(&mut join, ms, at(ms)) {
                assert_eq!(found, Some(pid), "at {ms} ms");
                assert!(met.insert(pid));
            }
        }
        let long = |session: &&Stormy| session.over > lookup + 4000;
        assert!(met.len() >= sessions.iter().filter(long).count());
        assert!(!join.is_waiting());
        seen += met.len();
    }
    println!("{seen} of 40000 found their connections");
}

/// The client's end of a session's connection.
fn peer(session: u32) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1024 + session as u16))
}

#[test]
fn a_socket_decides_before_order_does() {
    let (mut join, key) = (Join::default(), key(b"bob", b"imap", b"192.0.2.1"));
    let begin = at(0).usecs;
    let find = |pids: &[u32]| pids.iter().map(|&pid| (pid, peer(pid))).collect();
    // One of each is matched without.
    join.login(&key, 1, begin, Some(peer(1)));
    join.connection(&key, connection(begin + 1000, 1), 1, at(150));
    join.find_peers(|_| panic!("not ambiguous"));
    assert_eq!(settled(&mut join, 1, at(150)), [(Some(1), 1)]);
    // The second process overtook the first; and at once, although they are in flight.
    join.login(&key, 2, begin, Some(peer(2)));
    join.login(&key, 3, begin + 1000, Some(peer(3)));
    join.connection(&key, connection(begin + 2000, 3), 2, at(10));
    join.connection(&key, connection(begin + 30_000, 2), 2, at(40));
    join.find_peers(find);
    join.find_peers(|_| panic!("known already"));
    let found = [(Some(3), 3), (Some(2), 2)];
    assert_eq!(settled(&mut join, 2, at(40)), found);
    assert!(!join.is_waiting());
    // One of each, but of different sessions: both wait.
    join.login(&key, 4, begin, Some(peer(4)));
    for (reply, ms) in [(3, 200), (4, 300)] {
        join.connection(&key, connection(begin + 60_000, 5), reply, at(ms));
        join.find_peers(find);
        assert_eq!(settled(&mut join, reply, at(ms)), []);
    }
    join.login(&key, 5, begin + 2000, Some(peer(5)));
    assert_eq!(settled(&mut join, 5, at(310)), [(Some(5), 5)]);
    // The process of another session is not that of one that was short.
    join.connection(&key, connection(begin + 3000, 6), 6, at(320));
    join.connection(&key, connection(begin + 4000, 4), 6, at(320));
    join.find_peers(find);
    let own = Some(connection(begin + 4000, 4));
    assert_eq!(join.forget(&key, 4), own);
    join.login(&key, 7, begin + 2000, Some(peer(7)));
    assert_eq!(join.forget(&key, 7), None);
    // A login that never comes is not waited for longer than others.
    join.login(&key, 8, begin + 2000, Some(peer(8)));
    for (reply, ms) in [(7, 319 + PATIENCE_MS), (8, 320 + PATIENCE_MS)] {
        join.connection(&key, connection(begin + 3000, 6), reply, at(ms));
        let found = settled(&mut join, reply, at(ms));
        assert_eq!(found.len(), usize::from(reply == 8), "{ms}");
    }
}

#[test]
fn addresses_of_a_proxy_and_its_clients_do_not_exclude_each_other() {
    let (mut join, key) = (Join::default(), key(b"bob", b"imap", b"192.0.2.1"));
    let begin = at(0).usecs;
    for session in 1..=2 {
        let usecs = begin + u64::from(session) * 1000;
        join.login(&key, session, usecs, Some(peer(session)));
        join.connection(&key, connection(usecs + 500, session), 1, at(150));
    }
    let proxy = |pid: &u32| (*pid, SocketAddr::from(([10, 0, 0, 1], *pid as u16)));
    join.find_peers(|pids| pids.iter().map(proxy).collect());
    assert_eq!(settled(&mut join, 1, at(150)), [(Some(1), 1), (Some(2), 2)]);
}

/// 200 logins of 3 users at one address: a process may need up to 90 ms for its guid, so
/// that many are overtaken. Sessions that are over soon have sockets, too, while they are
/// listed. In every second storm, some have TLS; order is what their processes keep.
#[test]
fn storms_out_of_order_are_joined_by_sockets() {
    let mut random = Random::seeded("storms_out_of_order_are_joined_by_sockets");
    let (mut seen, mut overtaken) = (0, 0);
    for storm in 0..100 {
        let (mut lookup, mut known, mut sessions) = (0, 0, Vec::new());
        let mut last_tls = [0; 3];
        let mut is_tls = Vec::new();
        for _ in 0..200 {
            lookup += random.below(6);
            let user = random.below(3) as usize;
            let mut begin = lookup + 1 + random.below(90);
            let has_tls = storm % 2 == 1 && random.below(4) == 0;
            if has_tls {
                begin = (lookup + 1).max(last_tls[user]);
                last_tls[user] = begin;
            }
            let over = match random.below(5) {
                0 if !has_tls => begin + 2 + random.below(60),
                _ => begin + 20_000,
            };
            known = (lookup + random.below(60)).max(known);
            let ended = (over + random.below(60)).max(known);
            is_tls.push(has_tls);
            sessions.push(Stormy {
                user,
                lookup,
                begin,
                over,
                known,
                ended,
            });
        }
        for (number, session) in sessions.iter().enumerate() {
            let mut later = sessions[number..].iter();
            let is_later = |other: &Stormy| other.begin < session.begin;
            overtaken +=
                usize::from(later.any(|other| other.user == session.user && is_later(other)));
        }
        let keys = [&b"a"[..], b"b", b"c"].map(|user| key(user, b"imap", b"192.0.2.1"));
        let (mut join, mut met) = (Join::default(), HashSet::new());
        for ms in 0..lookup + 4000 {
            for (number, session) in (0..).zip(&sessions) {
                let key = &keys[session.user];
                if session.known == ms {
                    join.login(key, number, at(session.lookup).usecs, Some(peer(number)));
                }
                if session.ended == ms {
                    join.ended(key, number);
                }
                if session.ended + IN_FLIGHT_MS == ms {
                    if let Some(found) = join.forget(key, number) {
                        assert_eq!(found.pid, number, "of a short one");
                        assert!(met.insert(number));
                    }
                }
            }
            if ms % 30 != 0 {
                continue;
            }
            for (number, session) in (0..).zip(&sessions) {
                let is_listed = (session.begin..session.over).contains(&ms);
                if is_listed && !met.contains(&number) {
                    let usecs = at(session.begin).usecs + u64::from(number);
                    join.connection(&keys[session.user], connection(usecs, number), ms, at(ms));
                }
            }
            join.find_peers(|pids| {
                let plain = pids.iter().filter(|&&pid| !is_tls[pid as usize]);
                plain.map(|&pid| (pid, peer(pid))).collect()
            });
            for (found, pid) in settled(&mut join, ms, at(ms)) {
                assert_eq!(found, Some(pid), "at {ms} ms of storm {storm}");
                assert!(met.insert(pid));
            }
        }
        let long = |(number, session): (u32, &Stormy)| {
            session.over <= lookup + 4000 || met.contains(&number)
        };
        assert!((0..).zip(&sessions).all(long), "storm {storm}");
        seen += met.len();
    }
    assert!(overtaken > 1000, "{overtaken}");
    println!("{seen} of 20000 found their connections, {overtaken} were overtaken");
}
