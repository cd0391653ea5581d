//! HTTP, for Prometheus: GET and HEAD of `/metrics`, and `/`, which points there.
//!
//! Content that fits a slice is sent with its length, and in one write. Longer
//! content is sent in chunks, a slice each, or to a client of HTTP/1.0 as it is,
//! ended by closing. The head goes in front of the first slice when that is made,
//! because only then it is known which of these it is; so nothing is kept beside
//! the output of the connection.
//!
//! No request changes anything. Requests with content are refused, since nothing takes
//! any, and close the connection, so that the end of their content need not be found.

use crate::config::ListenerOptions;
use crate::daemon::faults::Fault;
use crate::daemon::log::visible;
use crate::daemon::serve::context::Context;
use crate::daemon::serve::protocol::{Conversation, Exchange};
use crate::daemon::serve::scrape::Scrape;
use crate::store::Store;
use crate::wire::http::{
    is_meant, write_chunk_size, write_head, Framing, Head, HeadReader, HttpRequest, Method,
    Response, Status, Version, CHUNK_END, LAST_CHUNK, OPENMETRICS_TYPE, TEXT_TYPE,
};
use crate::wire::metrics::Format;
use std::rc::Rc;

const METRICS_PATH: &[u8] = b"/metrics";

/// What is at `/`.
const INDEX: &str = "<!DOCTYPE html>\n<title>dovestatd</title>\n\
    <p>dovestatd: <a href=\"/metrics\">metrics</a></p>\n";

/// The end of the reply to a client that names another server.
const MISDIRECTED: &str = ": this server is not known by that name; ask it by address, or name it \
                           in server_names of its inet_listener";

/// HTTP on one connection.
#[derive(Debug)]
pub(crate) struct Http {
    /// The names of the server; `None`: Host is not checked.
    server_names: Option<Rc<str>>,
    /// Whether each response ends the connection.
    close_after_reply: bool,
    /// The listener's name, for the log.
    listener: Rc<str>,
    /// Reads the head of the next request.
    reader: HeadReader,
    /// The metrics that are being sent.
    sending: Option<Sending>,
}

/// The content of a response.
#[derive(Clone, Copy, Debug)]
enum Page {
    Metrics(Format),
    Index,
    /// The status and nothing else.
    Refusal,
}

impl Page {
    fn content_type(self) -> &'static str {
        match self {
            Page::Metrics(Format::OpenMetrics) => OPENMETRICS_TYPE,
            Page::Metrics(Format::Text) => TEXT_TYPE,
            Page::Index => "text/html; charset=utf-8",
            Page::Refusal => "text/plain; charset=utf-8",
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
struct Answer {
    page: Page,
    /// Whether the content is sent, or only the head.
    has_content: bool,
    /// The head, without how its content is framed.
    response: Response,
}

/// Metrics on their way.
#[derive(Debug)]
struct Sending {
    scrape: Scrape,
    /// Where the slice that is being made begins in the output.
    slice_begin: Option<usize>,
    /// The head of the response, with the framing of the metrics.
    response: Response,
    /// Whether the head is in the output.
    has_head: bool,
}

impl Http {
    pub(crate) fn new(
        options: &ListenerOptions,
        listener: &Rc<str>,
        server_names: &Option<Rc<str>>,
    ) -> Http {
        Http {
            server_names: server_names.clone(),
            close_after_reply: options.close_after_reply,
            listener: Rc::clone(listener),
            reader: HeadReader::default(),
            sending: None,
        }
    }

    /// Whether a Host names this server.
    fn is_meant(&self, host: &[u8]) -> bool {
        let names = self.server_names.as_ref();
        names.is_none_or(|names| is_meant(host, names))
    }

    fn decide(&self, request: &HttpRequest) -> Answer {
        let page = match request.path {
            METRICS_PATH if request.wants_openmetrics => Some(Page::Metrics(Format::OpenMetrics)),
            METRICS_PATH => Some(Page::Metrics(Format::Text)),
            b"/" => Some(Page::Index),
            _ => None,
        };
        let (status, page) = match (page, request.method) {
            (None, _) => (Status::NotFound, Page::Refusal),
            (Some(_), Method::Other) => (Status::MethodNotAllowed, Page::Refusal),
            (Some(_), _) if request.has_content => (Status::ContentTooLarge, Page::Refusal),
            (Some(page), _) => (Status::Ok, page),
        };
        Answer {
            page,
            has_content: request.method != Method::Head,
            response: Response {
                status,
                content_type: page.content_type(),
                framing: Framing::None,
                version: request.version,
                keep_alive: request.keep_alive && !request.has_content && !self.close_after_reply,
            },
        }
    }

    /// Answers, or begins to.
    fn begin(&mut self, answer: Answer, exchange: &mut Exchange, context: &Context) {
        let Answer { page, response, .. } = answer;
        let text = match page {
            Page::Metrics(format) if answer.has_content => {
                self.sending = Some(Sending {
                    scrape: Scrape::new(context.settings, context.store, format),
                    slice_begin: None,
                    response,
                    has_head: false,
                });
                return;
            }
            // How long they are is only known when they are made.
            Page::Metrics(_) => None,
            Page::Index => Some(INDEX.to_owned()),
            Page::Refusal => {
                let why = match response.status {
                    Status::Misdirected => MISDIRECTED,
                    _ => "",
                };
                Some([response.status.text(), why, "\n"].concat())
            }
        };
        let framing = text.as_ref().map(|text| Framing::Length(text.len()));
        let response = Response {
            framing: framing.unwrap_or(Framing::None),
            ..response
        };
        write_head(&mut exchange.output, &response, context.now.wall.secs);
        let content = text.filter(|_| answer.has_content).unwrap_or_default();
        exchange.output.extend_from_slice(content.as_bytes());
        exchange.closing |= !response.keep_alive;
    }

    /// Closes the connection: the input is no request, or one that is refused.
    #[cold]
    fn refuse(
        &mut self,
        (status, shown, has_content): (Status, String, bool),
        exchange: &mut Exchange,
        context: &mut Context,
    ) {
        let (listener, text) = (&self.listener, status.text());
        context.report(Fault::HttpRefused, || {
            format!("{listener}: {text}: {shown}")
        });
        let answer = Answer {
            page: Page::Refusal,
            has_content,
            response: Response {
                status,
                content_type: Page::Refusal.content_type(),
                framing: Framing::None,
                version: Version::V1_1,
                keep_alive: false,
            },
        };
        self.begin(answer, exchange, context);
    }
}

impl Conversation for Http {
    fn has_request(&mut self, input: &[u8]) -> bool {
        self.reader.read(input) != Head::Partial
    }

    fn answer(&mut self, exchange: &mut Exchange, context: &mut Context) {
        match std::mem::take(&mut self.reader).read(&exchange.input) {
            Head::Partial => {}
            Head::Refused(status) => {
                // Further lines may have passwords.
                let input = exchange.input.trim_ascii_start();
                let line = input.split(|&byte| byte == b'\n').next();
                let shown = visible(line.unwrap_or_default());
                self.refuse((status, shown, true), exchange, context);
            }
            Head::Whole(request, length) => {
                if let Some(host) = request.host.filter(|host| !self.is_meant(host)) {
                    let has_content = request.method != Method::Head;
                    let refusal = (Status::Misdirected, visible(host), has_content);
                    return self.refuse(refusal, exchange, context);
                }
                let answer = self.decide(&request);
                exchange.input.drain(..length);
                self.begin(answer, exchange, context);
            }
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

    fn held_bytes(&self) -> usize {
        let sending = self.sending.as_ref();
        sending.map_or(0, |sending| sending.scrape.held_bytes())
    }

    fn end(&mut self, store: &mut Store) {
        if let Some(sending) = self.sending.take() {
            sending.scrape.end(store);
        }
    }
}

impl Sending {
    /// Frames the slice that begins at `begin`.
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
        let content = output.split_off(begin);
        output.extend_from_slice(&front);
        output.extend_from_slice(&content);
        if is_chunk {
            output.extend_from_slice(CHUNK_END);
        }
        if is_chunked && is_last {
            output.extend_from_slice(LAST_CHUNK);
        }
        self.slice_begin = None;
    }
}
