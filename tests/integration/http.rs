//! A client of HTTP that takes nothing for granted, the samples of a body, and
//! daemons to ask.

use std::collections::BTreeMap;

use crate::harness::{free_port, local, text, Daemon, Setup};
use crate::link::Client;
use crate::records::{connect, update, Mail};

/// What a scraper asks that says nothing of itself.
pub const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// One response.
#[derive(Debug)]
pub struct Answer {
    /// The number.
    pub status: u16,
    /// Names in lower case, and values.
    pub fields: Vec<(String, String)>,
    /// The content, without what carries it.
    pub body: String,
}

impl Answer {
    /// A field's value, if it is there; never there twice.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {:?}", self.fields);
        value
    }

    /// Whether the connection goes on, by what the answer says.
    pub fn stays_open(&self) -> bool {
        self.field("connection") != Some("close")
    }

    /// The samples: name and labels, and the value. Families are whole: announced
    /// once, with a help and a kind, then nothing but their samples.
    #[track_caller]
    pub fn samples(&self) -> BTreeMap<&str, &str> {
        let mut samples = BTreeMap::new();
        let mut announced = Vec::new();
        for line in self.body.lines().filter(|line| *line != "# EOF") {
            if let Some(comment) = line.strip_prefix("# ") {
                let [word, name, _] = comment.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    panic!("{line:?}");
                };
                if word == "HELP" {
                    assert!(!announced.contains(&name), "{name} is announced twice");
                    announced.push(name);
                }
                assert_eq!(announced.last(), Some(&name), "{line:?}");
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            let name = sample.split('{').next().expect("a name");
            let family = announced.last().expect("a family");
            let ending = name.strip_prefix(family);
            let ending = ending.unwrap_or_else(|| panic!("{name} below {family}"));
            let endings = ["", "_total", "_info", "_bucket", "_sum", "_count"];
            assert!(endings.contains(&ending), "{line:?}");
            assert!(value.parse::<f64>().is_ok(), "{line:?}");
            assert_eq!(samples.insert(sample, value), None, "{sample} twice");
        }
        samples
    }
}

/// A daemon with a port for HTTP, and the port.
pub fn daemon(name: &str, setup: Setup, lines: &str) -> (Daemon, u16) {
    let port = free_port();
    let lines = format!("protocol = http\n{lines}");
    (Daemon::with(name, &setup.inet(port, &lines)), port)
}

/// A client of it.
pub fn client(port: u16) -> Client {
    Client::tcp(local(port))
}

/// Asks and gives the answer.
#[track_caller]
pub fn ask(client: &mut Client, request: &str) -> Answer {
    client.send(request);
    answer(client, request.starts_with("HEAD "))
}

/// Asks on a connection of its own.
#[track_caller]
pub fn get(port: u16) -> Answer {
    ask(&mut client(port), GET)
}

/// The next answer, with its content unless HEAD was asked.
#[track_caller]
pub fn answer(client: &mut Client, is_head: bool) -> Answer {
    let line = client.line();
    let words: Vec<&str> = line.trim_end().splitn(3, ' ').collect();
    assert_eq!(words[0], "HTTP/1.1", "{line:?}");
    let mut answer = Answer {
        status: words[1].parse().expect("a status"),
        fields: Vec::new(),
        body: String::new(),
    };
    loop {
        let line = client.line();
        let line = line.strip_suffix("\r\n").expect("CR LF");
        let Some((name, value)) = line.split_once(": ") else {
            assert_eq!(line, "");
            break;
        };
        let field = (name.to_ascii_lowercase(), value.to_string());
        answer.fields.push(field);
    }
    assert!(answer
        .field("date")
        .is_some_and(|date| date.ends_with(" GMT")));
    let length = answer.field("content-length").map(str::parse);
    let is_chunked = answer.field("transfer-encoding") == Some("chunked");
    let body = match length {
        _ if is_head => Vec::new(),
        Some(length) => client.bytes(length.expect("a length")),
        None if is_chunked => chunks(client),
        None => {
            assert!(!answer.stays_open(), "no end: {:?}", answer.fields);
            client.rest()
        }
    };
    answer.body = text(&body);
    answer
}

/// Content in chunks.
#[track_caller]
fn chunks(client: &mut Client) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = client.line();
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
        body.extend(client.bytes(size));
        assert_eq!(client.line(), "\r\n", "the end of a chunk of {size}");
        if size == 0 {
            return body;
        }
    }
}

/// All that there may be beside the global level.
pub const ALL_LEVELS: &str = "stats_metrics_levels = domain user ip";

/// A setup with lines outside sections.
pub fn with(lines: &str) -> Setup {
    let mut setup = Setup::new();
    setup.lines.push(lines.to_string());
    setup
}

/// Connects `count` users of a domain each; later ones used more.
pub fn fill(daemon: &Daemon, count: usize) {
    let mut writer = daemon.writer();
    for n in 0..count {
        let mut mail = Mail::sample();
        mail.times[0] = (n as i64, 0);
        let id = format!("fill{n}");
        let user = format!("user{n}@domain{n}.example");
        writer.send_waiting(&connect(&id, &user, "imap", 1, ""));
        writer.send_waiting(&update(&id, &mail.field()));
    }
    daemon.settle(&writer);
}

/// The names and labels of all samples.
pub fn names(answer: &Answer) -> Vec<&str> {
    answer.samples().into_keys().collect()
}
