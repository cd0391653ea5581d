//! Events that come by HTTP: Dovecot's `driver = http-post`, which 2.3.19 has, too.
//!
//! Each request is a POST whose content is lines of events. Requests of a connection
//! follow one another; each is answered when its content is complete.
//!
//! Invariants: what is kept of a connection is a head of at most [`MAX_HEAD_BYTES`];
//! content is handed on as it comes.
//!
//! Must not: read or write anything.

use crate::wire::parse_number;

/// The longest head; Dovecot's has some 200 bytes.
const MAX_HEAD_BYTES: usize = 8192;

/// The longest content of a request.
const MAX_CONTENT_BYTES: usize = 1 << 20;

/// The answer to a request that was taken.
pub(super) const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Some of the content.
    Content(&'a [u8]),
    /// The request is complete: it is to be answered by [`TAKEN`].
    End,
    /// It is none that is taken: this is the answer, and the connection is over.
    Refused(&'static str),
}

/// The requests of a connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    head: Vec<u8>,
    /// Bytes of content still to come; `None` within a head.
    left: Option<usize>,
}

impl Requests {
    /// Takes the next part off the front of `bytes`; `None` when there is none in it.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if let Some(left) = self.left {
            if left == 0 {
                self.left = None;
                return Some(Part::End);
            }
            let (content, rest) = bytes.split_at(left.min(bytes.len()));
            (*bytes, self.left) = (rest, Some(left - content.len()));
            return (!content.is_empty()).then_some(Part::Content(content));
        }
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            // Empty lines before a request are skipped.
            if self.head.is_empty() && matches!(byte, b'\r' | b'\n') {
                continue;
            }
            self.head.push(byte);
            if self.head.ends_with(b"\n\r\n") || self.head.ends_with(b"\n\n") {
                let length = content_bytes(&self.head);
                self.head.clear();
                match length {
                    Ok(length) => self.left = Some(length),
                    Err(status) => return Some(Part::Refused(status)),
                }
                return self.next(bytes);
            }
            if self.head.len() == MAX_HEAD_BYTES {
                return Some(Part::Refused("431 Request Header Fields Too Large"));
            }
        }
        None
    }
}

/// The length of the content behind a head, or the status of the refusal.
fn content_bytes(head: &[u8]) -> Result<usize, &'static str> {
    if !head.starts_with(b"POST ") {
        return Err("405 Method Not Allowed");
    }
    let mut found = None;
    for line in head.split(|&byte| byte == b'\n') {
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err("411 Length Required");
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = parse_number(value[1..].trim_ascii());
            // Two of them that differ are an attack.
            if length.is_none() || found.is_some_and(|found| Some(found) != length) {
                return Err("400 Bad Request");
            }
            found = length;
        }
    }
    match found {
        Some(0..=MAX_CONTENT_BYTES) => Ok(found.unwrap_or(0)),
        Some(_) => Err("413 Content Too Large"),
        None => Err("411 Length Required"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection gives, in pieces of `size`; content joined.
    fn parts(bytes: &[u8], size: usize) -> Vec<String> {
        let mut requests = Requests::default();
        let (mut found, mut content) = (Vec::new(), String::new());
        for mut piece in bytes.chunks(size) {
            while let Some(part) = requests.next(&mut piece) {
                match part {
                    Part::Content(bytes) => content += std::str::from_utf8(bytes).unwrap(),
                    Part::End => found.push(std::mem::take(&mut content)),
                    Part::Refused(status) => {
                        found.push(status[..3].to_owned());
                        return found;
                    }
                }
            }
        }
        found
    }

    fn post(content: &str) -> String {
        let length = content.len();
        format!("POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{content}")
    }

    #[test]
    fn requests_follow_one_another_however_they_arrive() {
        let all = [
            post("event:a\nevent:b\n"),
            post(""),
            "\r\n".into(),
            post("POST \n\n"),
        ]
        .concat();
        for size in 1..=all.len() {
            let found = parts(all.as_bytes(), size);
            assert_eq!(
                found,
                ["event:a\nevent:b\n", "", "POST \n\n"],
                "pieces of {size}"
            );
        }
        assert_eq!(
            parts(b"POST / HTTP/1.0\ncontent-LENGTH:  2\n\nab", 7),
            ["ab"]
        );
    }

    #[test]
    fn what_is_no_post_with_a_length_is_refused() {
        for (head, status) in [
            ("GET / HTTP/1.1\r\nHost: h", "405"),
            ("POST / HTTP/1.1", "411"),
            ("POST / HTTP/1.1\r\nContent-Length: x", "400"),
            ("POST / HTTP/1.1\r\nContent-Length: -1", "400"),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2",
                "400",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1",
                "411",
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 1048577", "413"),
            ("\u{16}\u{3}\u{1}", "405"),
        ] {
            assert_eq!(
                parts(format!("{head}\r\n\r\n").as_bytes(), 9),
                [status],
                "{head}"
            );
        }
        let endless = vec![b'x'; MAX_HEAD_BYTES];
        assert_eq!(parts(&endless[1..], 1000), [""; 0]);
        assert_eq!(parts(&endless, 1000), ["431"]);
        assert_eq!(
            parts(post(&"x".repeat(1 << 20)).as_bytes(), 65_536).len(),
            1
        );
    }
}
