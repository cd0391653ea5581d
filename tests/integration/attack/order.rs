//! Records in every order: sessions that were never announced, are dead, come back,
//! or report totals that go up, down and round; all of it held against the model.

use crate::attack::{Class, Tally, Victim};
use crate::records::{
    add_user, carry_on, command, connect, disconnect, seed, update, Auth, Mail, Random,
};

/// The records of a life, for a session of its own.
fn life(id: &str, user: &str) -> [Vec<u8>; 6] {
    let (few, many) = (Mail::sample().field(), {
        let mut mail = Mail::sample();
        mail.bytes = [500, 600];
        mail.field()
    });
    [
        connect(id, user, "imap", 1, "10.0.0.1"),
        update(id, &few),
        command(id, 1, "", "FETCH", "1:*", &few),
        carry_on(id, 1, "cd", &many),
        update(id, &many),
        disconnect(id),
    ]
}

/// All orders of `0..n`.
fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1).into_iter();
    shorter
        .flat_map(|order| {
            (0..n).map(move |at| {
                let mut order = order.clone();
                order.insert(at, n - 1);
                order
            })
        })
        .collect()
}

#[test]
fn the_records_of_a_session_may_come_in_every_order() {
    let mut tally = Tally::of(Class::Sessions);
    let mut victim = Victim::start("orders");
    let orders = permutations(6);
    tally.tries(orders.len());
    let lines: Vec<Vec<u8>> = orders
        .iter()
        .enumerate()
        .flat_map(|(n, order)| {
            let life = life(&format!("s{n}"), &format!("u{}@d{}", n % 50, n % 5));
            order
                .iter()
                .map(move |&at| life[at].clone())
                .collect::<Vec<_>>()
        })
        .collect();
    victim.feed(&lines);
    victim.check(&mut tally, "every order");
}

#[test]
fn any_four_records_may_follow_each_other() {
    let mut tally = Tally::of(Class::Sessions);
    let mut victim = Victim::start("fours");
    let mut lines = Vec::new();
    for n in 0..6usize.pow(4) {
        let life = life(&format!("s{n}"), &format!("u{}@d", n % 50));
        let digits = [n / 216, n / 36 % 6, n / 6 % 6, n % 6];
        lines.extend(digits.map(|at| life[at].clone()));
    }
    tally.tries(lines.len() / 4);
    victim.feed(&lines);
    victim.check(&mut tally, "any four");
}

#[test]
fn sessions_that_meet_in_one_id_are_kept_apart() {
    let mut tally = Tally::of(Class::Sessions);
    let mut victim = Victim::start("sameid");
    let seed = seed("sameid", 31);
    let mut random = Random::new(seed);
    let ids = [
        "", "a", "A", "a ", " a", "a\x01", "\u{e4}", "a:R1", "a:R2", "0",
    ];
    let lines: Vec<Vec<u8>> = (0..6000)
        .map(|n| {
            let id = *random.pick(&ids);
            let user = format!("u{}@d{}", random.below(5), random.below(3));
            let mail = Mail {
                bytes: [random.below(1000), n],
                ..Mail::default()
            };
            let (number, stats) = (1 + random.below(3) as u32, mail.field());
            match random.below(7) {
                0 => connect(id, &user, "imap", n as u32, "10.0.0.1"),
                1 => disconnect(id),
                2 => update(id, &stats),
                3 => command(id, number, "", "A", "B", &stats),
                4 => command(id, number, "d", "A", "B", &stats),
                5 => carry_on(
                    id,
                    number,
                    if random.one_in(3) { "cd" } else { "c" },
                    &stats,
                ),
                _ => add_user(&user, "imap", &Auth([1; 6]).field()),
            }
        })
        .collect();
    tally.tries(lines.len());
    victim.feed(&lines);
    victim.check(&mut tally, "ten ids for everybody");
}

#[test]
fn totals_may_go_up_down_and_round() {
    let mut tally = Tally::of(Class::Shrinking);
    let mut victim = Victim::start("totals");
    let seed = seed("totals", 41);
    let mut random = Random::new(seed);
    let narrow = [
        0,
        1,
        5,
        1 << 29,
        (1 << 30) - 1,
        1 << 30,
        (1 << 30) + 1,
        1 << 31,
        3 << 30,
        u32::MAX - 5,
        u32::MAX,
    ];
    let wide = [
        0,
        1,
        7,
        1 << 31,
        1 << 32,
        (1 << 32) + 1,
        (1 << 53) - 1,
        1 << 53,
    ];
    let mut lines = Vec::new();
    for session in 0..400 {
        let id = format!("s{session}");
        lines.push(connect(
            &id,
            &format!("u{}@d", session % 9),
            "imap",
            1,
            "::1",
        ));
        lines.push(command(&id, 1, "", "IDLE", "", ""));
        for _ in 0..8 {
            tally.tries(1);
            let mut mail = Mail::default();
            mail.times[random.index(3)] = (random.below(9) as i64, random.below(2_000_000) as i64);
            mail.faults[random.index(4)] = *random.pick(&narrow);
            mail.counts = [*random.pick(&narrow), *random.pick(&narrow)];
            mail.bytes = [*random.pick(&wide), *random.pick(&wide)];
            let stats = match random.below(5) {
                0 => String::new(),
                1 => Auth([*random.pick(&narrow); 6]).field(),
                _ => mail.field(),
            };
            lines.push(match random.one_in(3) {
                true => carry_on(&id, 1, "c", &stats),
                false => update(&id, &stats),
            });
        }
    }
    victim.feed(&lines);
    victim.check(&mut tally, "totals");
}
