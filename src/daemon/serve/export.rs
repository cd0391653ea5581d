//! The statistics protocol: EXPORT, RESET and STATUS, one line each.

use crate::config::{ColumnOrder as Order, ListenerOptions};
use crate::daemon::faults::Fault;
use crate::daemon::level_walk::{LevelWalk, Part};
use crate::daemon::log::visible;
use crate::daemon::serve::context::Context;
use crate::daemon::serve::protocol::{Conversation, Exchange};
use crate::daemon::serve::status::write_status;
use crate::store::{Opening, Store};
use crate::sys::mem::bytes::find;
use crate::wire::{parse_request, write_header, write_row, ColumnOrder, Columns, Request};
use std::rc::Rc;

/// The longest request, without its LF. Much longer than any real one, so that
/// names of the longest kind still fit.
const MAX_REQUEST_BYTES: usize = 4096;

/// The statistics protocol on one connection.
#[derive(Debug)]
pub(crate) struct Export {
    options: Rc<ListenerOptions>,
    /// The listener's name, for the log.
    listener: Rc<str>,
    /// The columns of the reply that is being made.
    columns: Columns,
    /// Its rows.
    walk: Option<LevelWalk>,
    /// The bytes that the store keeps for them.
    walk_bytes: usize,
}

impl Export {
    pub(crate) fn new(options: &Rc<ListenerOptions>, listener: &Rc<str>) -> Export {
        let order = match options.column_order {
            Order::V2_2 => ColumnOrder::V2_2,
            Order::V2_3 => ColumnOrder::V2_3,
        };
        Export {
            columns: Columns {
                order,
                ..Columns::default()
            },
            options: Rc::clone(options),
            listener: Rc::clone(listener),
            walk: None,
            walk_bytes: 0,
        }
    }

    /// Appends the end of a reply.
    fn end_reply(&self, end: &[u8], exchange: &mut Exchange) {
        exchange.output.extend_from_slice(end);
        exchange.closing |= self.options.close_after_reply;
    }

    /// Closes the connection for a fault, behind the replies before it.
    fn refuse(&self, fault: Fault, line: &[u8], exchange: &mut Exchange, context: &mut Context) {
        exchange.closing = true;
        let listener = &self.listener;
        context.report(fault, || format!("{listener}: {}", visible(line)));
    }
}

impl Conversation for Export {
    fn has_request(&mut self, input: &[u8]) -> bool {
        find(b'\n', input).is_some() || input.len() > MAX_REQUEST_BYTES
    }

    fn answer(&mut self, exchange: &mut Exchange, context: &mut Context) {
        let end = find(b'\n', &exchange.input).unwrap_or(exchange.input.len());
        let line: Vec<u8> = exchange.input.drain(..end).collect();
        if line.len() > MAX_REQUEST_BYTES {
            return self.refuse(Fault::RequestTooLong, &line, exchange, context);
        }
        // The LF.
        exchange.input.drain(..1);
        match parse_request(&mut line.clone()) {
            Ok(Request::Export {
                level,
                filter,
                more,
                histogram,
            }) => {
                self.columns = Columns {
                    more,
                    histogram,
                    ..self.columns
                };
                match context.store.open(level, filter) {
                    Opening::Rows(cursor) => {
                        self.walk_bytes = context.store.walk_bytes(&cursor);
                        self.walk = Some(LevelWalk::of(level, cursor));
                    }
                    Opening::Nothing => {
                        if self.options.header_always {
                            write_header(&mut exchange.output, level, self.columns);
                        }
                        self.end_reply(b"\n", exchange);
                    }
                }
            }
            Ok(Request::Reset) if self.options.reset => {
                context.store.reset(context.now);
                self.end_reply(b"OK\n", exchange);
            }
            Ok(Request::Status) => {
                write_status(&mut exchange.output, context);
                self.end_reply(b"", exchange);
            }
            Ok(Request::Reset) => self.refuse(Fault::ResetRefused, &line, exchange, context),
            Err(error) => {
                exchange.closing = true;
                if let Some(fault) = Fault::of_request(error) {
                    self.refuse(fault, &line, exchange, context);
                }
            }
        }
    }

    fn is_replying(&self) -> bool {
        self.walk.is_some()
    }

    fn go_on(&mut self, exchange: &mut Exchange, context: &mut Context, steps: &mut usize) {
        let columns = self.columns;
        let Some(walk) = &mut self.walk else {
            return;
        };
        let output = &mut exchange.output;
        walk.go_on(
            context.store,
            output,
            steps,
            &mut |output, part| match part {
                Part::Front(level, _) => write_header(output, level, columns),
                Part::Row(row) => write_row(output, row, columns),
            },
        );
        if walk.is_done() {
            self.end(context.store);
            self.end_reply(b"\n", exchange);
        }
    }

    fn held_bytes(&self) -> usize {
        self.walk_bytes
    }

    fn end(&mut self, store: &mut Store) {
        self.walk_bytes = 0;
        if let Some(walk) = self.walk.take() {
            walk.end(store);
        }
    }
}
