//! HTTP, for Prometheus: GET and HEAD of `/metrics`, and `/`, which points there.
//!
//! Content that fits a slice is sent with its length, and in one write. Longer
//! content is sent in chunks, a slice each, or to a client of HTTP/1.0 as it is,
//! ended by closing. The head goes in front of the first slice when that is made,
//! because only then it is known which of these it is; so nothing is kept beside
//! the output of the connection.
//!
//! Nothing that is asked here changes anything. Requests with content are
//! refused, since nothing takes any, and close the connection: where their
//! content ends is not worth finding out.

use super::context::Context;
use super::conversation::{Conversation, Exchange};
use super::faults::Fault;
use super::log::visible;
use super::scrape::Scrape;
use crate::config::ListenerOptions;
use crate::store::Store;
use crate::wire::http::{
    parse_head, write_chunk_size, write_head, Framing, Head, Method, Response, Status, Version,
    CHUNK_END, LAST_CHUNK, OPENMETRICS_TYPE, TEXT_TYPE,
};
use crate::wire::metrics::Format;
use std::rc::Rc;

/// Where metrics are.
const METRICS_PATH: &[u8] = b"/metrics";

/// What is at `/`.
const INDEX: &str = "<!DOCTYPE html>\n<title>dovestatd</title>\n\
    <p>dovestatd: <a href=\"/metrics\">metrics</a></p>\n";

/// What `INDEX` is.
const INDEX_TYPE: &str = "text/html; charset=utf-8";

/// What the texts of refusals are.
const REFUSAL_TYPE: &str = "text/plain; charset=utf-8";

/// A client that speaks it.
#[derive(Debug)]
pub struct Http {
    /// Whether each response ends the connection.
    close_after_reply: bool,
    /// The listener's name, for the log.
    listener: Rc<str>,
    /// The metrics that are being sent.
    sending: Option<Sending>,
}

/// Metrics on their way.
#[derive(Debug)]
struct Sending {
    /// What makes them.
    scrape: Scrape,
    /// Where the slice that is being made begins in the output.
    slice_begin: Option<usize>,
    /// The head of the response, which says how they are sent.
    response: Response,
    /// Whether the head is in the output.
    has_head: bool,
}

impl Http {
    /// With a client that has said nothing yet.
    pub fn new(options: &ListenerOptions, listener: &Rc<str>) -> Http {
        Http {
            close_after_reply: options.close_after_reply,
            listener: Rc::clone(listener),
            sending: None,
        }
    }
}

impl Conversation for Http {
    fn has_request(&self, input: &[u8]) -> bool {
        parse_head(input) != Head::Partial
    }

    fn answer(&mut self, exchange: &mut Exchange, context: &mut Context) {
        let now_secs = context.now.wall.secs;
        let (request, length) = match parse_head(&exchange.input) {
            Head::Whole(request, length) => (request, length),
            Head::Partial => return,
            Head::Refused(status) => {
                let listener = &self.listener;
                // Further lines may have passwords.
                let mut lines = exchange
                    .input
                    .trim_ascii_start()
                    .split(|&byte| byte == b'\n');
                let (text, line) = (status.text(), visible(lines.next().unwrap_or_default()));
                context.report(Fault::HttpRefused, || format!("{listener}: {text}: {line}"));
                let response = Response {
                    keep_alive: false,
                    ..refusal(status)
                };
                return push_text(exchange, response, &refusal_text(status), true, now_secs);
            }
        };
        let has_text = request.method != Method::Head;
        let keep_alive = request.keep_alive && !request.has_content && !self.close_after_reply;
        let is_metrics = request.path == METRICS_PATH;
        let (format, content_type) = match (is_metrics, request.wants_openmetrics) {
            (true, true) => (Format::OpenMetrics, OPENMETRICS_TYPE),
            (true, false) => (Format::Text, TEXT_TYPE),
            (false, _) => (Format::Text, INDEX_TYPE),
        };
        let status = if !is_metrics && request.path != b"/" {
            Status::NotFound
        } else if request.method == Method::Other {
            Status::MethodNotAllowed
        } else if request.has_content {
            Status::ContentTooLarge
        } else {
            Status::Ok
        };
        let common = Response {
            version: request.version,
            keep_alive,
            ..refusal(status)
        };
        exchange.input.drain(..length);
        let response = Response {
            content_type,
            ..common
        };
        match status {
            Status::Ok if is_metrics && has_text => {
                self.sending = Some(Sending {
                    scrape: Scrape::new(context.settings, format),
                    slice_begin: None,
                    response,
                    has_head: false,
                });
            }
            Status::Ok if is_metrics => {
                // How long they are is only known when they are made.
                write_head(&mut exchange.output, &response, now_secs);
                exchange.closing |= !keep_alive;
            }
            Status::Ok => push_text(exchange, response, INDEX, has_text, now_secs),
            refused => push_text(exchange, common, &refusal_text(refused), has_text, now_secs),
        }
    }

    fn is_replying(&self) -> bool {
        self.sending.is_some()
    }

    fn go_on(&mut self, exchange: &mut Exchange, context: &mut Context, steps: &mut usize) {
        let Some(mut sending) = self.sending.take() else {
            return;
        };
        let output = &mut exchange.output;
        let begin = *sending.slice_begin.get_or_insert(output.len());
        let is_made = sending.scrape.make(output, context, steps);
        if !is_made && !exchange.is_slice_full() {
            self.sending = Some(sending);
            return;
        }
        sending.frame(exchange, begin, is_made, context.now.wall.secs);
        if is_made {
            exchange.closing |= !sending.response.keep_alive;
        } else {
            self.sending = Some(sending);
        }
    }

    fn end(&mut self, store: &mut Store) {
        if let Some(sending) = self.sending.take() {
            sending.scrape.end(store);
        }
    }
}

impl Sending {
    /// Puts what HTTP wants around the slice that begins at `begin`.
    fn frame(&mut self, exchange: &mut Exchange, begin: usize, is_last: bool, now_secs: u32) {
        let output = &mut exchange.output;
        let length = output.len() - begin;
        let mut front = Vec::new();
        if !self.has_head {
            self.response.framing = match (is_last, self.response.version) {
                (true, _) => Framing::Length(length),
                (false, Version::V1_1) => Framing::Chunked,
                (false, Version::V1_0) => Framing::Close,
            };
            self.response.keep_alive &= self.response.framing != Framing::Close;
            write_head(&mut front, &self.response, now_secs);
            self.has_head = true;
        }
        let is_chunked = self.response.framing == Framing::Chunked;
        // A chunk of nothing would be the last one.
        let is_chunk = is_chunked && length > 0;
        if is_chunk {
            write_chunk_size(&mut front, length);
        }
        output.splice(begin..begin, front);
        if is_chunk {
            output.extend_from_slice(CHUNK_END);
        }
        if is_chunked && is_last {
            output.extend_from_slice(LAST_CHUNK);
        }
        self.slice_begin = None;
    }
}

/// The head of a refusal of whoever knows HTTP/1.1.
fn refusal(status: Status) -> Response {
    Response {
        status,
        content_type: REFUSAL_TYPE,
        framing: Framing::None,
        version: Version::V1_1,
        keep_alive: true,
    }
}

/// What a refusal says.
fn refusal_text(status: Status) -> String {
    format!("{}\n", status.text())
}

/// Appends a whole response with a short text, or only its head.
fn push_text(
    exchange: &mut Exchange,
    response: Response,
    text: &str,
    has_text: bool,
    now_secs: u32,
) {
    let framing = Framing::Length(text.len());
    let response = Response {
        framing,
        ..response
    };
    write_head(&mut exchange.output, &response, now_secs);
    if has_text {
        exchange.output.extend_from_slice(text.as_bytes());
    }
    exchange.closing |= !response.keep_alive;
}
