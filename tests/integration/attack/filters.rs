//! Filters: what each lists at each level, against the same asked of the whole
//! session level by hand; and names that look like filters.

use std::net::IpAddr;

use crate::attack::{Class, Tally};
use crate::harness::Daemon;
use crate::link::{latin1, Table};
use crate::records::{command, connect, disconnect, escape, seed, Random};

/// One session, by hand.
struct Session {
    id: String,
    user: String,
    ip: Option<IpAddr>,
    connected: bool,
}

impl Session {
    fn domain(&self) -> &str {
        self.user.split_once('@').map_or("", |(_, domain)| domain)
    }
}

/// Whether a name fits a pattern, by the definition.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            fits(rest, name) || !name.is_empty() && fits(pattern, &name[1..])
        }
        (Some((b'?', rest)), Some((_, behind))) => fits(rest, behind),
        (Some((a, rest)), Some((b, behind))) => a == b && fits(rest, behind),
        _ => false,
    }
}

/// Whether an address lies in a network.
fn lies(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    let number = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => (32, u128::from(ip.to_bits())),
        IpAddr::V6(ip) => (128, ip.to_bits()),
    };
    let ((width, a), (other, b)) = (number(ip), number(network));
    width == other && (bits == 0 || (a ^ b) >> (width - bits) == 0)
}

const USERS: [&str; 10] = [
    "alice@d1",
    "alice@d2",
    "bob@d1",
    "a*@d1",
    "a?b@d?",
    "",
    "@d1",
    "no-domain",
    "x@y@z",
    "tab\tline\n@d\r1",
];
const IPS: [&str; 7] = [
    "",
    "10.0.0.1",
    "10.0.0.2",
    "10.1.0.1",
    "::ffff:10.0.0.3",
    "2001:db8::1",
    "2001:db8:1::1",
];
const PATTERNS: [&str; 18] = [
    "*",
    "?*",
    "alice@*",
    "*@d1",
    "alice@d1",
    "al?ce@d?",
    "a*",
    "a?*",
    "",
    "@d1",
    "nobody",
    "x@y@z",
    "*\t*",
    "??????????",
    "*@*@*",
    "no-domain",
    "d1",
    "d?",
];
const NETWORKS: [(&str, u32); 10] = [
    ("10.0.0.1", 32),
    ("10.0.0.0", 30),
    ("10.0.0.0", 8),
    ("0.0.0.0", 0),
    ("10.0.0.3", 32),
    ("2001:db8::1", 128),
    ("2001:db8::", 32),
    ("2001:db8::", 47),
    ("::", 0),
    ("192.0.2.1", 32),
];

#[test]
fn filters_list_at_every_level_what_they_say() {
    let mut tally = Tally::of(Class::Filters);
    let mut daemon = Daemon::start("filters");
    let mut random = Random::new(seed("filters", 81));
    let mut sessions = Vec::new();
    let mut records = Vec::new();
    for n in 0..120 {
        let session = Session {
            id: format!("s{n}"),
            user: random.pick(&USERS).to_string(),
            ip: random.pick(&IPS).parse().ok(),
            connected: random.one_in(2),
        };
        let ip = session.ip.map(|ip| ip.to_string()).unwrap_or_default();
        records.push(connect(&session.id, &session.user, "imap", 1, &ip));
        records.push(command(&session.id, 1, "d", &session.id, "", ""));
        if !session.connected {
            records.push(disconnect(&session.id));
        }
        sessions.push(session);
    }
    daemon.feed(&records);
    let mut client = daemon.client();
    for _ in 0..1500 {
        let mut request = Vec::new();
        let user = random.one_in(2).then(|| *random.pick(&PATTERNS));
        let domain = random.one_in(3).then(|| *random.pick(&PATTERNS));
        let id = random.one_in(5).then(|| format!("s{}", random.below(140)));
        let network = random.one_in(3).then(|| *random.pick(&NETWORKS));
        let connected = random.one_in(3);
        let mut add = |field: String| {
            request.push(b'\t');
            request.extend(escape(field.as_bytes()));
        };
        user.into_iter()
            .for_each(|user| add(format!("user={user}")));
        domain
            .into_iter()
            .for_each(|domain| add(format!("domain={domain}")));
        id.iter().for_each(|id| add(format!("session={id}")));
        network
            .into_iter()
            .for_each(|(ip, bits)| add(format!("ip={ip}/{bits}")));
        if connected {
            add("connected".to_owned());
        }
        let network = network.map(|(ip, bits)| (ip.parse::<IpAddr>().expect("one"), bits));
        let fitting: Vec<&Session> = sessions
            .iter()
            .filter(|session| {
                let fits = |pattern: Option<&str>, name: &str| {
                    pattern.is_none_or(|pattern| fits(pattern.as_bytes(), name.as_bytes()))
                };
                fits(user, &session.user)
                    && fits(domain, session.domain())
                    && id.as_ref().is_none_or(|id| *id == session.id)
                    && (!connected || session.connected)
                    && network.is_none_or(|(network, bits)| {
                        session.ip.is_some_and(|ip| lies(ip, network, bits))
                    })
            })
            .collect();
        for level in ["session", "command", "user", "domain", "ip"] {
            tally.tries(1);
            client.send([b"EXPORT\t", level.as_bytes(), &request, b"\n"].concat());
            let table = Table::parse(&client.reply());
            let column = if level == "command" { "cmd" } else { level };
            let mut listed: Vec<String> = table
                .values(column)
                .iter()
                .map(|value| (*value).to_owned())
                .collect();
            listed.sort_unstable();
            let shown = |text: &str| latin1(&escape(text.as_bytes()));
            let mut wanted: Vec<String> = fitting
                .iter()
                .filter_map(|session| match level {
                    "user" => Some(shown(&session.user)),
                    "domain" => Some(shown(session.domain())),
                    "ip" => session.ip.map(|ip| ip.to_canonical().to_string()),
                    _ => Some(session.id.clone()),
                })
                .collect();
            wanted.sort_unstable();
            if !["session", "command"].contains(&level) {
                wanted.dedup();
            }
            assert_eq!(listed, wanted, "{level}{:?}", latin1(&request));
        }
    }
    tally.check(&mut daemon);
}
