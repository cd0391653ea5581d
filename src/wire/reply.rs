//! Header lines and rows of a reply.

use crate::stats::{Item, Unit, FIELDS, FIELD_COUNT};
use crate::store::{Counters, Key, Latency, Level, Row, Totals, WallTime, QUANTILES};
use crate::wire::encoding::pen::Pen;
use std::net::IpAddr;
use std::ops::Range;

/// Which columns a reply has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The order of those that Dovecot has as well.
    pub order: ColumnOrder,
    /// Whether ours follow them, which a request asks for.
    pub more: bool,
    /// Whether how many commands took how long follows, where that is kept.
    pub histogram: bool,
}

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
    /// The places in [`FIELDS`] in column order.
    fn ranges(self) -> [Range<usize>; 2] {
        match self {
            ColumnOrder::V2_3 => [MAIL, AUTH],
            ColumnOrder::V2_2 => [AUTH, MAIL],
        }
    }
}

/// The fields of mail processes in [`FIELDS`].
const MAIL: Range<usize> = Item::Mail.fields();

/// The fields of auth in [`FIELDS`].
const AUTH: Range<usize> = Item::Auth.fields();

/// The columns of auth where all are zero.
const AUTH_ZEROS: &[u8; 2 * AUTH_COUNT] = b"0\t0\t0\t0\t0\t0\t";

const AUTH_COUNT: usize = AUTH.end - AUTH.start;

/// Where the statistics fields of `net` are in [`FIELDS`].
const NET: Range<usize> = Item::Net.fields();

/// The columns of [`Totals`], and the last of them.
const TOTALS: &str = "reset_timestamp\tlast_update\tnum_logins\tnum_cmds";
const CONNECTED: &str = "\tnum_connected_sessions";

/// The columns of how long commands took, of each [`QUANTILES`] and the longest.
pub(super) const TIMES: &str = "\ttime_p50\ttime_p90\ttime_p99\ttime_max";

/// The column of how many took how long.
const HISTOGRAM: &str = "\ttime_histogram";

/// Appends the header line of a level.
pub fn write_header(out: &mut Vec<u8>, level: Level, columns: Columns) {
    let mut push = |text: &str| out.extend_from_slice(text.as_bytes());
    match level {
        Level::Command => push("cmd\targs\tsession\tuser\tlast_update"),
        Level::Session => push("session\tuser\tip\tservice\tpid\tconnected\tlast_update\tnum_cmds"),
        Level::Global => push(TOTALS),
        Level::Cmd => push("service\tcmd\treset_timestamp\tlast_update\tnum_cmds"),
        level => [level.name(), "\t", TOTALS].into_iter().for_each(&mut push),
    }
    // Dovecot: users have no such column.
    if !matches!(
        level,
        Level::Command | Level::Session | Level::User | Level::Cmd
    ) {
        push(CONNECTED);
    }
    for range in columns.order.ranges() {
        push_names(out, range);
    }
    if level == Level::Cmd {
        out.extend_from_slice(TIMES.as_bytes());
    }
    if columns.more {
        let own = match level {
            Level::Command => "\tservice\tover",
            Level::Session => "\tconnect_time",
            Level::User => CONNECTED,
            _ => "",
        };
        out.extend_from_slice(own.as_bytes());
        push_names(out, NET);
        if matches!(level, Level::Global | Level::Service) {
            out.extend_from_slice(TIMES.as_bytes());
        }
    }
    if columns.histogram && matches!(level, Level::Global | Level::Service | Level::Cmd) {
        out.extend_from_slice(HISTOGRAM.as_bytes());
    }
    out.push(b'\n');
}

/// Appends the names of statistics fields, a TAB before each.
fn push_names(out: &mut Vec<u8>, range: Range<usize>) {
    for field in &FIELDS[range] {
        out.push(b'\t');
        out.extend_from_slice(field.name.as_bytes());
    }
}

/// The most numbers of a row beside its statistics; TABs and an address use room of
/// numbers as well.
const MAX_NUMBERS: usize = 10;

/// Appends the line of an entry. It has as many fields as the header.
pub fn write_row(out: &mut Vec<u8>, row: &Row, columns: Columns) {
    let text_bytes = match row {
        Row::Command {
            name,
            args,
            session,
            user,
            service,
            ..
        } => name.len() + args.len() + session.len() + user.len() + service.len(),
        Row::Session {
            session,
            user,
            service,
            ..
        } => session.len() + user.len() + service.len(),
        Row::Parent(_, key, _) => match key {
            Key::Name(name) => name.len(),
            Key::Address(_) => 0,
        },
        Row::Global(..) => 0,
        Row::Service(name, ..) => name.len(),
        Row::Cmd { service, name, .. } => service.len() + name.len(),
    };
    let latency = row.latency();
    let more_numbers = match latency {
        None => 0,
        Some(latency) => QUANTILES.len() + 1 + latency.counts.len(),
    };
    Pen::append(
        out,
        text_bytes,
        FIELD_COUNT + MAX_NUMBERS + more_numbers,
        |pen| {
            let counters = write_keys(pen, row);
            let values = &counters.stats.values;
            for range in columns.order.ranges() {
                let values = &values[range.clone()];
                if range == AUTH && values.iter().all(|&value| value == 0) {
                    // Sessions and commands have none of auth.
                    pen.bytes(AUTH_ZEROS);
                    continue;
                }
                for (field, &value) in FIELDS[range].iter().zip(values) {
                    pen.value(field.unit, value);
                }
            }
            let is_cmd = matches!(row, Row::Cmd { .. });
            if let (Some(latency), true) = (latency, is_cmd) {
                write_times(pen, latency);
            }
            if columns.more {
                write_more(pen, row);
                for index in NET {
                    pen.value(FIELDS[index].unit, values[index]);
                }
                if let (Some(latency), false) = (latency, is_cmd) {
                    write_times(pen, latency);
                }
            }
            if let (Some(latency), true) = (latency, columns.histogram) {
                write_histogram(pen, latency);
            }
            pen.end_line();
        },
    );
}

/// Writes the columns in front of the statistics.
fn write_keys<'a>(pen: &mut Pen, row: &'a Row) -> &'a Counters {
    match row {
        Row::Command {
            name,
            args,
            session,
            user,
            last_update,
            counters,
            ..
        } => {
            for text in [name, args, session, user] {
                pen.text(text);
            }
            write_wall_time(pen, *last_update);
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
            ..
        } => {
            pen.text(session);
            pen.text(user);
            match ip {
                Some(ip) => write_ip(pen, *ip),
                None => pen.end_field(),
            }
            pen.text(service);
            pen.number(u64::from(*pid));
            pen.number(u64::from(*connected));
            write_wall_time(pen, *last_update);
            pen.number(counters.num_cmds);
            counters
        }
        Row::Parent(level, key, totals) => {
            match key {
                Key::Name(name) => pen.text(name),
                Key::Address(ip) => write_ip(pen, *ip),
            }
            write_totals(pen, totals, *level != Level::User)
        }
        Row::Global(totals, _) => write_totals(pen, totals, true),
        Row::Service(name, totals, _) => {
            pen.text(name);
            write_totals(pen, totals, true)
        }
        Row::Cmd {
            service,
            name,
            totals,
            ..
        } => {
            pen.text(service);
            pen.text(name);
            pen.number(u64::from(totals.reset_secs));
            write_wall_time(pen, totals.last_update);
            pen.number(totals.counters.num_cmds);
            &totals.counters
        }
    }
}

/// Writes our columns of one level behind the statistics that Dovecot has as well.
fn write_more(pen: &mut Pen, row: &Row) {
    match row {
        Row::Command {
            service, is_over, ..
        } => {
            pen.text(service);
            pen.number(u64::from(*is_over));
        }
        Row::Session { connect_secs, .. } => pen.number(u64::from(*connect_secs)),
        Row::Parent(Level::User, _, totals) => pen.number(totals.connected),
        Row::Parent(..) | Row::Global(..) | Row::Service(..) | Row::Cmd { .. } => {}
    }
}

/// The columns of [`TIMES`].
fn write_times(pen: &mut Pen, latency: &Latency) {
    for percent in QUANTILES {
        pen.value(Unit::Time, latency.quantile_usecs(percent));
    }
    pen.value(Unit::Time, latency.max_usecs);
}

/// The counts of a histogram by its bounds, ascending, a comma between them, without the
/// zeros at the end.
fn write_histogram(pen: &mut Pen, latency: &Latency) {
    let is_counted = |count: &u64| *count > 0;
    let len = latency.counts.iter().rposition(is_counted);
    for (place, &count) in latency.counts[..len.map_or(0, |last| last + 1)]
        .iter()
        .enumerate()
    {
        if place > 0 {
            pen.byte(b',');
        }
        pen.digits(count);
    }
    pen.end_field();
}

/// The columns of [`TOTALS`] and maybe [`CONNECTED`].
fn write_totals<'a>(pen: &mut Pen, totals: &'a Totals, has_connected: bool) -> &'a Counters {
    pen.number(u64::from(totals.reset_secs));
    write_wall_time(pen, totals.last_update);
    pen.number(totals.counters.num_logins);
    pen.number(totals.counters.num_cmds);
    if has_connected {
        pen.number(totals.connected);
    }
    &totals.counters
}

fn write_ip(pen: &mut Pen, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    pen.byte(b'.');
                }
                pen.digits(octet.into());
            }
            pen.end_field();
        }
        IpAddr::V6(ip) => pen.text(ip.to_string().as_bytes()),
    }
}

fn write_wall_time(pen: &mut Pen, time: WallTime) {
    pen.secs(time.secs.into(), time.usecs);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::BOUNDS_USECS;

    fn columns(order: ColumnOrder, more: bool) -> Columns {
        Columns {
            order,
            more,
            histogram: false,
        }
    }

    fn header(level: Level, order: ColumnOrder, more: bool) -> String {
        let mut out = Vec::new();
        write_header(&mut out, level, columns(order, more));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn headers_are_exactly_those_of_the_protocol() {
        let mail = "user_cpu sys_cpu clock_time min_faults maj_faults vol_cs invol_cs disk_input disk_output read_count read_bytes write_count write_bytes mail_lookup_path mail_lookup_attr mail_read_count mail_read_bytes mail_cache_hits";
        let auth = "auth_successes auth_master_successes auth_failures auth_db_tempfails auth_cache_hits auth_cache_misses";
        let keys = "reset_timestamp last_update num_logins num_cmds num_connected_sessions";
        let line = |parts: &[&str]| parts.join(" ").replace(' ', "\t") + "\n";
        assert_eq!(
            header(Level::Global, ColumnOrder::V2_3, false),
            line(&[keys, mail, auth])
        );
        assert_eq!(
            header(Level::Ip, ColumnOrder::V2_2, false),
            line(&["ip", keys, auth, mail])
        );
        assert_eq!(
            header(Level::Command, ColumnOrder::V2_3, false),
            line(&["cmd args session user last_update", mail, auth])
        );
        assert_eq!(
            header(Level::Session, ColumnOrder::V2_3, false),
            line(&[
                "session user ip service pid connected last_update num_cmds",
                mail,
                auth
            ])
        );
        assert_eq!(
            header(Level::User, ColumnOrder::V2_3, false),
            line(&[
                "user reset_timestamp last_update num_logins num_cmds",
                mail,
                auth
            ])
        );
    }

    #[test]
    fn ours_follow_the_known_columns() {
        for (level, own) in [
            (Level::Command, "service over "),
            (Level::Session, "connect_time "),
            (Level::User, "num_connected_sessions "),
            (Level::Domain, ""),
            (Level::Ip, ""),
            (Level::Global, ""),
            (Level::Service, ""),
            (Level::Cmd, ""),
        ] {
            let times = match level {
                Level::Global | Level::Service => " time_p50 time_p90 time_p99 time_max",
                _ => "",
            };
            let own = format!("\t{own}net_in_bytes net_out_bytes lock_wait{times}\n");
            let own = own.replace(' ', "\t");
            for order in [ColumnOrder::V2_3, ColumnOrder::V2_2] {
                let known = header(level, order, false);
                let all = header(level, order, true);
                assert_eq!(all, format!("{}{own}", known.trim_end()));
            }
        }
    }

    #[test]
    fn rows_have_as_many_fields_as_the_header_whatever_they_contain() {
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
        let latency = Latency {
            counts: [u64::MAX; BOUNDS_USECS.len() + 1],
            sum_usecs: u64::MAX,
            max_usecs: u64::MAX,
        };
        let hostile = &b"a\tb\nc\rd\0e\x01f"[..];
        let last_update = WallTime { secs: 7, usecs: 42 };
        let address = Key::Address("2001:db8::1".parse().unwrap());
        for (level, row) in [
            (
                Level::Command,
                Row::Command {
                    name: hostile,
                    args: hostile,
                    session: hostile,
                    user: hostile,
                    last_update,
                    counters: &counters,
                    service: hostile,
                    is_over: true,
                },
            ),
            (
                Level::Session,
                Row::Session {
                    session: hostile,
                    user: hostile,
                    ip: None,
                    service: hostile,
                    pid: 0,
                    connected: true,
                    last_update,
                    counters: &counters,
                    connect_secs: u32::MAX,
                },
            ),
            (
                Level::User,
                Row::Parent(Level::User, Key::Name(hostile), &totals),
            ),
            (
                Level::Domain,
                Row::Parent(Level::Domain, Key::Name(hostile), &totals),
            ),
            (Level::Ip, Row::Parent(Level::Ip, address, &totals)),
            (Level::Global, Row::Global(&totals, &latency)),
            (Level::Service, Row::Service(hostile, &totals, &latency)),
            (
                Level::Cmd,
                Row::Cmd {
                    service: hostile,
                    name: hostile,
                    totals: &totals,
                    latency: &latency,
                },
            ),
        ] {
            for number in 0..8 {
                let columns = Columns {
                    order: match number & 1 {
                        0 => ColumnOrder::V2_3,
                        _ => ColumnOrder::V2_2,
                    },
                    more: number & 2 > 0,
                    histogram: number & 4 > 0,
                };
                let mut out = Vec::new();
                write_row(&mut out, &row, columns);
                let line = String::from_utf8(out).unwrap();
                let body = line.strip_suffix('\n').unwrap();
                assert!(!body.contains(['\n', '\r', '\0']), "{line:?}");
                let mut header = Vec::new();
                write_header(&mut header, level, columns);
                let fields = header.iter().filter(|&&byte| byte == b'\t').count() + 1;
                assert_eq!(body.split('\t').count(), fields, "{line:?}");
            }
        }
    }
}
