//! What is in records: every byte in every text, every number at its limits, every
//! field missing, doubled, emptied or cut; all of it held against the model.

use crate::attack::{is_open, Class, Tally, Victim};
use crate::records::{
    add_user, base64, carry_on, command, connect, disconnect, escape, update, Auth, Mail,
};

/// Whole numbers at the limits of every type, and what only looks like a number.
const NUMBERS: [&str; 44] = [
    "",
    "0",
    "1",
    "-0",
    "-1",
    "+1",
    "00",
    "01",
    "0001",
    " 1",
    "1 ",
    "1\r",
    "1.0",
    "1e3",
    "0x1",
    "1_000",
    "\u{661}",
    "127",
    "128",
    "255",
    "256",
    "32767",
    "32768",
    "65535",
    "65536",
    "2147483646",
    "2147483647",
    "2147483648",
    "4294967294",
    "4294967295",
    "4294967296",
    "4294967297",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551617",
    "340282366920938463463374607431768211456",
    "99999999999999999999999999999999999999999999",
    "NaN",
    "inf",
    "1\x010",
    "1\x01t2",
];

#[test]
fn every_byte_may_stand_in_every_text() {
    let mut tally = Tally::of(Class::Output);
    let mut victim = Victim::start("bytes");
    let mut records = Vec::new();
    for byte in 0..=255u8 {
        let raw = [b'a', byte, b'b', byte];
        for text in [raw.to_vec(), escape(&raw), vec![1, byte], vec![byte, 1]] {
            if text.contains(&b'\n') {
                continue;
            }
            tally.tries(3);
            let fields: [&[u8]; 5] = [b"CONNECT", &text, &text, &text, b"1"];
            records.push(fields.join(&b'\t'));
            let fields: [&[u8]; 7] = [b"UPDATE-CMD", &text, b"1", b"", &text, &text, b""];
            records.push(fields.join(&b'\t'));
            records.push([b"ADD-USER", text.as_slice(), &text, b""].join(&b'\t'));
        }
    }
    victim.feed(&records);
    victim.check(&mut tally, "every byte");
}

#[test]
fn texts_of_any_encoding_come_out_as_they_went_in() {
    let mut tally = Tally::of(Class::Output);
    let mut victim = Victim::start("encodings");
    let texts: Vec<Vec<u8>> = vec![
        vec![],
        "\u{feff}bom".into(),
        "\u{202e}over".into(),
        "\u{0}\u{1}\u{7f}\u{80}\u{9f}".into(),
        "e\u{301}\u{e9}".into(),
        "\u{10ffff}\u{fffe}\u{d7ff}".into(),
        b"\xc0\x80\xc1\xbf overlong".to_vec(),
        b"\xed\xa0\x80\xed\xbf\xbf surrogates".to_vec(),
        b"\xf4\x90\x80\x80\xf8\x88\x80\x80\x80".to_vec(),
        b"\xe2\x82 cut".to_vec(),
        b"\xff\xfe\x61\x00".to_vec(),
        b"\x1b[2J\x1b]0;title\x07\x9b31m".to_vec(),
        b"%s%n%x\\n\\x00${x}$(x)`x`'\"<&>".to_vec(),
        vec![0; 500],
        vec![1; 500],
        vec![b'\n'; 500],
        vec![0xff; 3000],
    ];
    for (n, text) in texts.iter().enumerate() {
        tally.tries(1);
        let wire = escape(text);
        let mut user = text.clone();
        user.extend(b"@");
        user.extend(text);
        let user = escape(&user[..user.len().min(700)]);
        let short = escape(&text[..text.len().min(700)]);
        let id = [wire.as_slice(), n.to_string().as_bytes()].concat();
        let line = |fields: &[&[u8]]| fields.join(&b'\t');
        victim.feed(&[
            line(&[b"CONNECT", &id, &user, &short, b"1"]),
            line(&[b"UPDATE-CMD", &id, b"1", b"", &short, &short, b""]),
        ]);
        let filter = [b"EXPORT\tsession\tsession=", id.as_slice(), b"\n"].concat();
        let mut client = victim.daemon.client();
        if filter.len() <= 4096 {
            client.send(&filter);
            let found = crate::link::Table::parse(&client.reply());
            assert_eq!(found.rows.len(), 1, "{:?}", crate::link::latin1(&id));
        }
    }
    victim.check(&mut tally, "encodings");
}

#[test]
fn every_number_is_taken_or_refused_as_a_whole() {
    let mut tally = Tally::of(Class::Numbers);
    let mut victim = Victim::start("numbers");
    let stats = Mail::sample().field();
    for (n, number) in NUMBERS.iter().enumerate() {
        tally.tries(4);
        let id = format!("n{n}");
        victim.feed(&[
            format!("CONNECT\tpid-{id}\tu{n}@d\timap\t{number}").into_bytes(),
            connect(&id, "u@d", "imap", 1, ""),
            format!("UPDATE-CMD\t{id}\t{number}\t\tA\tB\t{stats}").into_bytes(),
            format!("UPDATE-CMD\t{id}\t{number}\tc\t{stats}").into_bytes(),
            format!("UPDATE-CMD\t{id}\t{number}\tcd\t{stats}").into_bytes(),
        ]);
    }
    victim.check(&mut tally, "numbers in fields");
}

#[test]
fn addresses_are_addresses_or_none() {
    let mut tally = Tally::of(Class::Numbers);
    let mut victim = Victim::start("addresses");
    let long = "1".repeat(5000);
    let addresses = [
        "0.0.0.0",
        "255.255.255.255",
        "256.0.0.1",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.4/8",
        "0x7f.1",
        "1.2.3.4 ",
        " 1.2.3.4",
        "::",
        "::1",
        ":::",
        "1::2::3",
        "fe80::1%lo",
        "::ffff:1.2.3.4",
        "::ffff:0:0",
        "::1.2.3.4",
        "2001:DB8::1",
        "2001:db8:0:0:0:0:0:1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "1:2:3:4:5:6:7:8:9",
        "[::1]",
        "localhost",
        "",
        "/run/socket",
        "\u{ff11}.1.1.1",
        &long,
    ];
    for (n, address) in addresses.iter().enumerate() {
        tally.tries(2);
        let front = format!("CONNECT\ta{n}");
        victim.feed(&[
            format!("{front}\tu\timap\t1\trip={address}"),
            format!("{front}b\tu\timap\t1\trip=192.0.2.1\tlip={address}\tfoo=bar\trip={address}"),
        ]);
    }
    victim.check(&mut tally, "addresses");
}

/// Reports of one field each at the limits of its type and of what is sane.
fn reports() -> Vec<Mail> {
    const SANE: i64 = 1 << 53;
    let times = [
        (0, 999_999),
        (0, 1_000_000),
        (0, 1_999_999),
        (0, i64::MAX),
        (0, -1),
        (-1, 0),
        (-1, -1),
        (-1, 1_000_000),
        (1, -1_000_000),
        (i64::MAX, 0),
        (i64::MAX, 999_999),
        (i64::MIN, 0),
        (i64::MAX, i64::MAX),
        (i64::MIN, i64::MIN),
        (i64::from(i32::MAX), 999_999),
        (i64::from(u32::MAX), 0),
        (0, SANE),
        (0, SANE + 1),
        (0, SANE - 1),
        (SANE / 1_000_000, SANE % 1_000_000),
        (SANE / 1_000_000, SANE % 1_000_000 + 1),
    ];
    let narrow = [
        1,
        i32::MAX as u32,
        i32::MAX as u32 + 1,
        u32::MAX - 1,
        u32::MAX,
    ];
    let wide = [
        1,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 53) - 1,
        1 << 53,
        (1 << 53) + 1,
        i64::MAX as u64,
        i64::MAX as u64 + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    let mut all = Vec::new();
    let mut add = |set: &dyn Fn(&mut Mail)| {
        let mut mail = Mail::default();
        set(&mut mail);
        all.push(mail);
    };
    for time in times {
        (0..3).for_each(|n| add(&|mail| mail.times[n] = time));
    }
    for value in narrow {
        (0..4).for_each(|n| add(&|mail| mail.faults[n] = value));
        (0..2).for_each(|n| add(&|mail| mail.counts[n] = value));
        (0..3).for_each(|n| add(&|mail| mail.lookups[n] = value));
    }
    for value in wide {
        (0..2).for_each(|n| add(&|mail| mail.disk[n] = value));
        (0..2).for_each(|n| add(&|mail| mail.bytes[n] = value));
        (0..2).for_each(|n| add(&|mail| mail.read[n] = value));
    }
    all
}

#[test]
fn every_statistic_is_counted_at_its_limits_and_refused_past_them() {
    let mut tally = Tally::of(Class::Numbers);
    let mut victim = Victim::start("statistics");
    let small = Mail::sample().field();
    for (n, mail) in reports().iter().enumerate() {
        tally.tries(5);
        let (id, user, field) = (format!("m{n}"), format!("u{n}@d{}", n % 7), mail.field());
        victim.feed(&[
            connect(&id, &user, "imap", 1, "10.0.0.1"),
            // As the first total, after a small one, and before one.
            update(&id, &field),
            update(&id, &small),
            update(&id, &field),
            command(&id, 1, "", "A", "", &field),
            command(&id, 2, "", "B", "", &small),
            carry_on(&id, 2, "c", &field),
            carry_on(&id, 2, "cd", &small),
            add_user(&user, "imap", &field),
            update(&format!("unknown{n}"), &field),
        ]);
    }
    let fields = [1, u32::MAX, i32::MAX as u32, i32::MAX as u32 + 1];
    for (n, value) in fields.into_iter().enumerate() {
        for at in 0..6 {
            tally.tries(2);
            let mut auth = Auth::default();
            auth.0[at] = value;
            let id = format!("a{n}-{at}");
            victim.feed(&[
                connect(&id, "auth@d", "imap", 1, ""),
                update(&id, &auth.field()),
                update(&id, &Auth([3; 6]).field()),
                add_user("auth@d", "imap", &auth.field()),
            ]);
        }
    }
    victim.check(&mut tally, "statistics at their limits");
}

#[test]
fn stats_fields_are_whole_items_in_base64_or_refused() {
    let mut tally = Tally::of(Class::WrongRecords);
    let mut victim = Victim::start("base64");
    let good = Mail::sample().field();
    victim.feed(&[connect("s", "u@d", "imap", 1, "10.0.0.1")]);
    let mut fields: Vec<Vec<u8>> = Vec::new();
    for at in 0..good.len() {
        for byte in *b"=!A\xff" {
            let mut field = good.clone().into_bytes();
            field[at] = byte;
            fields.push(field);
        }
        fields.push(good.as_bytes()[..at].to_vec());
        fields.push(good.as_bytes()[at..].to_vec());
    }
    let (mail, auth) = (Mail::sample().item(), Auth([1; 6]).item());
    for items in [
        [mail.clone(), mail.clone()].concat(),
        [auth.clone(), mail.clone(), auth.clone()].concat(),
        [&mail[..], b"mail\0"].concat(),
        [&mail[..], b"\0"].concat(),
        [&mail[..], b"auth"].concat(),
        b"\0".to_vec(),
        b"mail\0".to_vec(),
        b"MAIL\0".iter().chain(&mail[5..]).copied().collect(),
        b"mailx\0".iter().chain(&mail[5..]).copied().collect(),
        [mail.repeat(3), auth.repeat(3)].concat(),
        auth.repeat(17),
        auth.repeat(18),
        mail.repeat(20),
        auth.repeat(200),
        vec![0; 3000],
    ] {
        fields.push(base64(&items).into_bytes());
        fields.push(base64(&items).replace('=', "").into_bytes());
        fields.push(
            base64(&items)
                .replace('+', "-")
                .replace('/', "_")
                .into_bytes(),
        );
        fields.push([base64(&items), "\r".to_owned()].concat().into_bytes());
    }
    fields.retain(|field| !is_open(&[b"UPDATE-SESSION\ts\t", field.as_slice()].concat()));
    tally.tries(3 * fields.len());
    let lines: Vec<Vec<u8>> = fields
        .iter()
        .enumerate()
        .flat_map(|(n, field)| {
            let front = [
                "UPDATE-SESSION\ts".to_owned(),
                format!("UPDATE-CMD\ts\t{}\td\tA\tB", n + 1),
                format!("ADD-USER\tu{n}\timap"),
            ];
            front.map(|front| [front.as_bytes(), b"\t", field].concat())
        })
        .collect();
    victim.feed(&lines);
    victim.check(&mut tally, "stats fields");
}

#[test]
fn records_lose_gain_and_exchange_fields() {
    let mut tally = Tally::of(Class::WrongRecords);
    let mut victim = Victim::start("fields");
    let stats = Mail::sample().field();
    victim.feed(&[connect("s", "u@d", "imap", 1, "10.0.0.1")]);
    let records = [
        connect("new", "new@d", "imap", 1, "10.0.0.2"),
        update("s", &stats),
        command("s", 1, "", "FETCH", "1:*", &stats),
        carry_on("s", 1, "c", &stats),
        carry_on("s", 1, "cd", &stats),
        add_user("added@d", "auth", &stats),
        disconnect("new"),
    ];
    let odd: [&[u8]; 9] = [
        b"", b"d", b"c", b"dc", b"dd", b"0", b"s", b"\x01", b"CONNECT",
    ];
    let mut lines = Vec::new();
    for record in &records {
        let fields: Vec<&[u8]> = record.split(|&b| b == b'\t').collect();
        for at in 0..fields.len() {
            let mut variant = |change: &dyn Fn(&mut Vec<&[u8]>)| {
                let mut fields = fields.clone();
                change(&mut fields);
                lines.push(fields.join(&b'\t'));
            };
            variant(&|fields| {
                fields.remove(at);
            });
            variant(&|fields| fields.insert(at, fields[at]));
            variant(&|fields| fields.truncate(at));
            (0..fields.len()).for_each(|to| variant(&|fields| fields.swap(at, to)));
            odd.iter()
                .for_each(|text| variant(&|fields| fields[at] = text));
            odd.iter()
                .for_each(|text| variant(&|fields| fields.insert(at, text)));
        }
        lines.push([record.as_slice(), b"\t"].concat());
        lines.push([record, record.as_slice()].join(&b'\t'));
        lines.push(record.to_ascii_lowercase());
        lines.push(vec![b'\t'; 5000]);
    }
    tally.tries(lines.len());
    victim.feed(&lines);
    victim.check(&mut tally, "fields moved about");
}
