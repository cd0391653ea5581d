//! Header lines and rows of a reply.

use super::escape::push_escaped;
use super::number::{push_digits, push_secs, write_stat, MAX_NUMBER_BYTES};
use crate::stats::{place, Stats, FIELDS, FIELD_COUNT};
use crate::store::{Counters, Row, Totals, WallTime, Zoom};
use std::net::IpAddr;

/// In which order the statistics columns come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColumnOrder {
    /// As in Dovecot 2.3: the fields of mail processes, then those of auth.
    #[default]
    V2_3,
    /// As in Dovecot 2.2: auth first. Some positional readers expect it.
    V2_2,
}

impl ColumnOrder {
    /// The indexes of [`FIELDS`] in column order.
    fn indexes(self) -> impl Iterator<Item = usize> {
        let first = match self {
            ColumnOrder::V2_3 => 0,
            ColumnOrder::V2_2 => place::auth_successes,
        };
        (first..FIELD_COUNT).chain(0..first)
    }
}

/// Appends the header line of a level.
pub fn write_header(out: &mut Vec<u8>, zoom: Zoom, order: ColumnOrder) {
    let keys = match zoom {
        Zoom::Command => "cmd\targs\tsession\tuser\tlast_update",
        Zoom::Session => "session\tuser\tip\tservice\tpid\tconnected\tlast_update\tnum_cmds",
        Zoom::User => "user\treset_timestamp\tlast_update\tnum_logins\tnum_cmds",
        Zoom::Domain => {
            "domain\treset_timestamp\tlast_update\tnum_logins\tnum_cmds\tnum_connected_sessions"
        }
        Zoom::Ip => {
            "ip\treset_timestamp\tlast_update\tnum_logins\tnum_cmds\tnum_connected_sessions"
        }
        Zoom::Global => {
            "reset_timestamp\tlast_update\tnum_logins\tnum_cmds\tnum_connected_sessions"
        }
    };
    out.extend_from_slice(keys.as_bytes());
    for index in order.indexes() {
        out.push(b'\t');
        out.extend_from_slice(FIELDS[index].name.as_bytes());
    }
    out.push(b'\n');
}

/// Appends the line of an entry. It has as many fields as the header.
pub fn write_row(out: &mut Vec<u8>, row: &Row, order: ColumnOrder) {
    let counters = match row {
        Row::Command {
            name,
            args,
            session,
            user,
            last_update,
            counters,
        } => {
            for text in [name, args, session, user] {
                push_text(out, text);
            }
            push_wall_time(out, *last_update);
            counters
        }
        Row::Session {
            session,
            user,
            ip,
            service,
            pid,
            connected,
            last_update,
            counters,
        } => {
            push_text(out, session);
            push_text(out, user);
            if let Some(ip) = ip {
                push_ip(out, *ip);
            }
            out.push(b'\t');
            push_text(out, service);
            push_number(out, u64::from(*pid));
            push_number(out, u64::from(*connected));
            push_wall_time(out, *last_update);
            push_number(out, counters.num_cmds);
            counters
        }
        Row::User(name, totals) => {
            push_text(out, name);
            push_totals(out, totals)
        }
        Row::Domain(name, totals) => {
            push_text(out, name);
            push_connected(out, totals)
        }
        Row::Ip(ip, totals) => {
            push_ip(out, *ip);
            out.push(b'\t');
            push_connected(out, totals)
        }
        Row::Global(totals) => push_connected(out, totals),
    };
    push_stats(out, &counters.stats, order);
    // The last TAB ends the line instead.
    out.pop();
    out.push(b'\n');
}

// Every function below ends what it appends by a TAB, unless it says otherwise.

/// The columns from reset_timestamp to num_cmds.
fn push_totals<'a>(out: &mut Vec<u8>, totals: &'a Totals) -> &'a Counters {
    push_number(out, u64::from(totals.reset_secs));
    push_wall_time(out, totals.last_update);
    push_number(out, totals.counters.num_logins);
    push_number(out, totals.counters.num_cmds);
    &totals.counters
}

/// The columns from reset_timestamp to num_connected_sessions.
fn push_connected<'a>(out: &mut Vec<u8>, totals: &'a Totals) -> &'a Counters {
    push_totals(out, totals);
    push_number(out, totals.connected);
    &totals.counters
}

/// The statistics columns.
fn push_stats(out: &mut Vec<u8>, stats: &Stats, order: ColumnOrder) {
    // Room for the longest there are, filled with the TABs that end them, then less of
    // it: cheaper than room as needed.
    let mut end = out.len();
    out.resize(end + FIELD_COUNT * (MAX_NUMBER_BYTES + 1), b'\t');
    for index in order.indexes() {
        let room = out[end..].first_chunk_mut().expect("there is room for all");
        end += write_stat(room, index, stats.values[index]) + 1;
    }
    out.truncate(end);
}

/// A text.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    push_escaped(out, text);
    out.push(b'\t');
}

/// An address, without TAB.
fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            push_digits(out, a.into());
            for octet in [b, c, d] {
                out.push(b'.');
                push_digits(out, octet.into());
            }
        }
        IpAddr::V6(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
    }
}

/// A moment.
fn push_wall_time(out: &mut Vec<u8>, time: WallTime) {
    push_secs(out, time.secs.into(), time.usecs);
    out.push(b'\t');
}

/// A number.
fn push_number(out: &mut Vec<u8>, number: u64) {
    push_digits(out, number);
    out.push(b'\t');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(zoom: Zoom, order: ColumnOrder) -> String {
        let mut out = Vec::new();
        write_header(&mut out, zoom, order);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn headers_are_exactly_those_of_the_protocol() {
        let mail = "user_cpu sys_cpu clock_time min_faults maj_faults vol_cs invol_cs disk_input disk_output read_count read_bytes write_count write_bytes mail_lookup_path mail_lookup_attr mail_read_count mail_read_bytes mail_cache_hits";
        let auth = "auth_successes auth_master_successes auth_failures auth_db_tempfails auth_cache_hits auth_cache_misses";
        let keys = "reset_timestamp last_update num_logins num_cmds num_connected_sessions";
        let line = |parts: &[&str]| parts.join(" ").replace(' ', "\t") + "\n";
        assert_eq!(
            header(Zoom::Global, ColumnOrder::V2_3),
            line(&[keys, mail, auth])
        );
        assert_eq!(
            header(Zoom::Ip, ColumnOrder::V2_2),
            line(&["ip", keys, auth, mail])
        );
        assert_eq!(
            header(Zoom::Command, ColumnOrder::V2_3),
            line(&["cmd args session user last_update", mail, auth])
        );
        assert_eq!(
            header(Zoom::Session, ColumnOrder::V2_3),
            line(&[
                "session user ip service pid connected last_update num_cmds",
                mail,
                auth
            ])
        );
        assert_eq!(
            header(Zoom::User, ColumnOrder::V2_3),
            line(&[
                "user reset_timestamp last_update num_logins num_cmds",
                mail,
                auth
            ])
        );
    }

    #[test]
    fn rows_have_as_many_fields_as_the_header_whatever_is_in_them() {
        let mut counters = Counters {
            num_cmds: u64::MAX,
            ..Counters::default()
        };
        counters.stats.values.fill(u64::MAX);
        let totals = Totals {
            reset_secs: 1,
            last_update: WallTime { secs: 2, usecs: 3 },
            counters,
            connected: 4,
        };
        let hostile = &b"a\tb\nc\rd\0e\x01f"[..];
        let last_update = WallTime { secs: 7, usecs: 42 };
        for (zoom, row) in [
            (
                Zoom::Command,
                Row::Command {
                    name: hostile,
                    args: hostile,
                    session: hostile,
                    user: hostile,
                    last_update,
                    counters,
                },
            ),
            (
                Zoom::Session,
                Row::Session {
                    session: hostile,
                    user: hostile,
                    ip: None,
                    service: hostile,
                    pid: 0,
                    connected: true,
                    last_update,
                    counters,
                },
            ),
            (Zoom::User, Row::User(hostile, totals)),
            (Zoom::Domain, Row::Domain(hostile, totals)),
            (Zoom::Ip, Row::Ip("2001:db8::1".parse().unwrap(), totals)),
            (Zoom::Global, Row::Global(totals)),
        ] {
            for order in [ColumnOrder::V2_3, ColumnOrder::V2_2] {
                let mut out = Vec::new();
                write_row(&mut out, &row, order);
                let line = String::from_utf8(out).unwrap();
                let body = line.strip_suffix('\n').unwrap();
                assert!(!body.contains(['\n', '\r', '\0']), "{line:?}");
                let fields = header(zoom, order).split('\t').count();
                assert_eq!(body.split('\t').count(), fields, "{line:?}");
            }
        }
    }
}
