//! Framing: lines in pieces of any size, at their limit, torn by writers that die.

use crate::attack::{is_open, Class, Tally, Victim};
use crate::link::Writer;
use crate::records::{
    add_user, carry_on, command, connect, disconnect, seed, update, Auth, Mail, Random,
};
use crate::streams::{mutate, Stream};

/// The longest line taken, without its LF.
const MOST: usize = 8192;

/// A stream of records, some of them broken.
fn stream(seed: u64, records: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    let records = Stream::new(seed).take(records).into_iter();
    records
        .map(|record| match random.one_in(5) {
            true => mutate(&mut random, &record),
            false => record,
        })
        .filter(|record| !is_open(record))
        .collect()
}

#[test]
fn a_stream_is_the_same_however_it_is_written() {
    let mut tally = Tally::of(Class::Lines);
    let mut victim = Victim::start("pieces");
    let seed = seed("pieces", 21);
    let sizes = [
        1, 2, 3, 7, 63, 512, 4095, 4096, 4097, 8191, 8192, 8193, 65_535, 65_536,
    ];
    let mut writer = victim.daemon.writer();
    for (n, size) in sizes.into_iter().enumerate() {
        let records = stream(seed + n as u64, if size < 7 { 100 } else { 500 });
        tally.tries(1);
        records.iter().for_each(|record| victim.model.line(record));
        let mut bytes = records.join(&b'\n');
        bytes.push(b'\n');
        bytes.chunks(size).for_each(|piece| writer.send_raw(piece));
    }
    let mut random = Random::new(seed);
    for n in 0..20 {
        let records = stream(seed + 100 + n, 200);
        tally.tries(1);
        records.iter().for_each(|record| victim.model.line(record));
        let mut bytes = records.join(&b'\n');
        bytes.push(b'\n');
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + random.index(9000)).min(rest.len()));
            writer.send_raw(piece);
            rest = behind;
        }
    }
    victim.daemon.settle(&writer);
    victim.check(&mut tally, "however it is written");
}

/// A record of each kind with one field filled up to a length of the line.
fn padded(bytes: usize, id: &str) -> Vec<Vec<u8>> {
    let stats = Mail::sample().field();
    let line = |front: &str, back: &str| {
        let room = bytes.saturating_sub(front.len() + back.len());
        [front.as_bytes(), &vec![b'x'; room], back.as_bytes()].concat()
    };
    vec![
        line(&format!("CONNECT\t{id}a"), "\tu\timap\t1"),
        line(&format!("CONNECT\t{id}b\t{id}"), "@d\timap\t1"),
        line(&format!("CONNECT\t{id}c\tu@{id}"), "\timap\t1"),
        line(&format!("CONNECT\t{id}d\tu\t"), "\t1\trip=10.0.0.1"),
        line(&format!("CONNECT\t{id}e\tu\timap\t1\tlip="), ""),
        line(&format!("CONNECT\t{id}f\tu\timap\t"), "1"),
        line(&format!("UPDATE-SESSION\t{id}g"), &format!("\t{stats}")),
        line(&format!("UPDATE-SESSION\t{id}a\t"), &stats),
        line(
            &format!("UPDATE-CMD\t{id}d\t1\t\t"),
            &format!("\targs\t{stats}"),
        ),
        line(
            &format!("UPDATE-CMD\t{id}d\t2\t\tNAME\t"),
            &format!("\t{stats}"),
        ),
        line(&format!("UPDATE-CMD\t{id}d\t1\tc\t"), &format!("\t{stats}")),
        line(&format!("ADD-USER\t{id}"), &format!("\timap\t{stats}")),
        line(&format!("DISCONNECT\t{id}a"), ""),
        line("", ""),
        line("\t", ""),
        line("NONSENSE", ""),
    ]
}

#[test]
fn lines_of_every_kind_are_taken_up_to_their_limit() {
    let mut tally = Tally::of(Class::Lines);
    let mut victim = Victim::start("limits");
    let far = [2 * MOST, 65_535, 65_536, 65_537, 65_536 + MOST, 200_000];
    let sizes = [MOST - 1, MOST, MOST + 1, MOST + 2];
    for (n, size) in sizes.into_iter().chain(far).enumerate() {
        let lines = padded(size, &format!("size{n}"));
        tally.tries(lines.len());
        // One at a time, so that a line and its LF come in every way.
        let mut writer = victim.daemon.writer();
        for line in &lines {
            assert_eq!(line.len(), size);
            victim.model.line(line);
            writer.send_raw(line);
            victim.daemon.settle(&writer);
            writer.send_raw(b"\n");
        }
        victim.daemon.settle(&writer);
        victim.feed(&lines);
    }
    victim.assert_as_modelled("at the limit");
    let taken = victim.daemon.client().export("session").rows.len();
    assert!(taken > 10, "{taken} sessions: the limit itself is taken");
    victim.check(&mut tally, "at the limit");
}

#[test]
fn a_writer_may_die_at_every_byte() {
    let mut tally = Tally::of(Class::Lines);
    let mut victim = Victim::start("dying");
    let stats = Mail::sample().field();
    let records = [
        connect("torn", "torn@d", "imap", 1, "10.0.0.1"),
        update("torn", &stats),
        command("torn", 1, "", "FETCH", "1:*", &stats),
        carry_on("torn", 1, "c", &stats),
        add_user("torn@d", "auth", &Auth([1; 6]).field()),
        disconnect("torn"),
    ];
    let path = victim.daemon.fifo();
    let mut kept = victim.daemon.writer();
    for (kind, record) in records.iter().enumerate() {
        for at in 1..record.len() {
            let next = connect(&format!("{kind}-{at}-a"), "eaten", "imap", 1, "");
            let last = connect(&format!("{kind}-{at}-b"), "whole", "imap", 1, "");
            tally.tries(1);
            let mut dying = Writer::open(&path);
            dying.send_raw(&record[..at]);
            drop(dying);
            kept.send_waiting(&next);
            kept.send_waiting(&last);
            victim.model.line(&[&record[..at], &next].concat());
            victim.model.line(&last);
        }
    }
    victim.daemon.settle(&kept);
    let whole = victim.daemon.client().export("user\tuser=whole");
    assert_eq!(whole.only().num("num_logins"), tally_cases(&records));
    victim.check(&mut tally, "torn at every byte");
}

/// The bytes at which the records can be torn.
fn tally_cases(records: &[Vec<u8>]) -> u64 {
    records.iter().map(|record| record.len() as u64 - 1).sum()
}

#[test]
fn line_ends_and_bytes_between_them_are_what_they_are() {
    let mut tally = Tally::of(Class::Lines);
    let mut victim = Victim::start("lineends");
    let mut writer = victim.daemon.writer();
    let ends: [&[u8]; 10] = [
        b"",
        b"\r",
        b"\0",
        b"\t",
        b" ",
        b"\x01",
        b"\x01n",
        b"\r\r",
        b"\x0b\x0c",
        b"\xff",
    ];
    for (n, end) in ends.into_iter().enumerate() {
        for (k, front) in ends.into_iter().enumerate() {
            tally.tries(2);
            let record = connect(&format!("e{n}-{k}"), "u", "imap", 1, "10.0.0.1");
            for line in [[front, &record, end].concat(), [front, end].concat()] {
                victim.model.line(&line);
                writer.send_raw(&line);
                writer.send_raw(b"\n");
            }
        }
    }
    // Many lines of nothing, as many as a pipe holds.
    tally.tries(1);
    writer.send_raw(&[b'\n'; 100_000]);
    victim.daemon.settle(&writer);
    victim.check(&mut tally, "ends of lines");
}

#[test]
fn two_fifos_do_not_mix_their_lines() {
    let mut tally = Tally::of(Class::Lines);
    let mut victim = Victim::start("twofifos");
    let mut mail = victim.daemon.writer();
    let mut users = Writer::open(&victim.daemon.dir.at("run/stats-user"));
    let auth = Auth([1, 0, 0, 0, 0, 0]).field();
    // Known before, so that the order of what follows is the same in both.
    victim.feed(&[add_user("mixed", "auth", &auth)]);
    let long = vec![b'y'; 3 * MOST];
    for n in 0..200 {
        tally.tries(1);
        let record = connect(&format!("s{n}"), "mixed", "imap", 1, "");
        let added = add_user("mixed", "auth", &auth);
        victim.model.line(&record);
        victim.model.line(&added);
        let at = n % record.len();
        if n % 10 == 0 {
            mail.send_raw(&long);
        }
        users.send_raw(&added[..added.len() - at.min(20)]);
        if n % 10 == 0 {
            mail.send_raw(b"\n");
        }
        mail.send_raw(&record[..at]);
        users.send_raw(&added[added.len() - at.min(20)..]);
        users.send_raw(b"\n");
        mail.send_raw(&record[at..]);
        mail.send_raw(b"\n");
    }
    victim.daemon.settle(&mail);
    victim.daemon.settle(&users);
    let mut client = victim.daemon.client();
    let global = client.export("global");
    assert_eq!(global.only().num("auth_successes"), 201);
    assert_eq!(global.only().num("num_logins"), 200);
    assert_eq!(client.export("user").rows.len(), 1);
    tally.check(&mut victim.daemon);
}
