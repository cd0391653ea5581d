//! What a hostile server sends to our client: the first byte says how it is cut.

use dovestat::cli::server::{Address, Event, ReplyParser};

/// What the parser says of some bytes, as text.
fn events(bytes: &[u8], size: usize) -> Vec<String> {
    let mut parser = ReplyParser::default();
    let mut events = Vec::new();
    for piece in bytes.chunks(size) {
        parser.feed(piece);
        loop {
            match parser.next() {
                Ok(None) => break,
                Ok(Some(Event::Row(row))) => {
                    let fields: Vec<_> = row.fields().collect();
                    assert!(!fields.is_empty());
                    assert_eq!(row.get(fields.len()), b"");
                    events.push(format!("{fields:?}"));
                }
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Err(error) => {
                    events.push(error.to_string());
                    return events;
                }
            }
        }
    }
    events.push(parser.is_between_replies().to_string());
    events
}

/// Replies, and the text of an address.
pub fn run(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = events(bytes, bytes.len().max(1));
    assert_eq!(events(bytes, 1 + usize::from(size)), whole);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let address = Address::parse(text);
        assert_eq!(Address::parse(&address.to_string()), address);
    }
}
