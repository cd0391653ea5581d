//! Statistics of Dovecot's mail processes, kept per command, session, user,
//! domain, IP address, service, command name and globally in a bounded memory.
//!
//! # The way of the data
//!
//! 1. `daemon/server` waits for what is ready, once in each turn of its loop;
//!    `daemon/input/rest` knows when the FIFOs are read.
//! 2. `daemon/input/fifo` reads bytes of a FIFO; `wire/lines` cuts them into lines,
//!    `wire/record` decodes a line to a record, its stats field by the table of `stats`.
//! 3. `daemon/input/records` hands it to the store: `store/update/apply` finds or creates
//!    its entries (`store/entries`) and counts upwards (`store/counters`), at one instant
//!    and within the byte budget (`store/mem`; `store/update/room` and `evict` free entries).
//! 4. `daemon/serve/client` reads a request; `wire/request` parses it to a level and a
//!    filter; a cursor (`store/query`) walks the level in slices (`daemon/level_walk`).
//! 5. `wire/reply`, `metrics` or `carbon` formats the rows, and `daemon/serve` or
//!    `daemon/push` writes them out.
//! 6. `cli/server` takes a reply apart again; `cli/dump` and `cli/top` show it.
//!
//! # The rooms
//!
//! In layer order; each imports only what stands below it. Of each folder the files are
//! listed whose names do not say it all.
//!
//! `cli`: the client, and the bridge from Dovecot 2.4.
//!
//! | folder | what lives there |
//! |---|---|
//! | `cli` | `mod` (the commands; that of the bridge executes its program), `run` (a program reported as a session), `reset`; `column` (what is known of a column by its name), `number` (as people read it), `order` (how lists are sorted), `width` (of text on a terminal) |
//! | `cli/args` | the command line: `mod` (what each command takes), `table` (words and the phrases of help), `help` (the texts of help), `filter` (filters checked), `completion`, `raw` (words that are not UTF-8) |
//! | `cli/server` | `mod` (connections to a daemon), `address` (connecting, and why it failed), `usual` (default paths), `reply` (taken apart) |
//! | `cli/dump`, `cli/format` | `dump` and `slow`: `output` (columns chosen, rows sorted and printed), `diff`, `saved` (a dump read from a file); rows as text |
//! | `cli/top` | `screen` and `batch` (the two loops), `keys` (from bytes), `level` (what it knows of levels), `kick`, `view_file` (what it remembers) |
//! | `cli/top/data` | `link` (servers connected to in threads, asked, their states, silent ones given up), `column` (title, text, target), `values` (of a reading), `process` (since when it runs) |
//! | `cli/top/data/model` | rows kept: `entry`, its `figures` (totals or rates), `moves`, `texts`, `spark` (lines); `line` (of a reply) |
//! | `cli/top/view` | what keys do: `levels` (the path from level to level), `filter`, `rows`, `selection` (and clicks), `modes`, `typing`, `saved` (as text) |
//! | `cli/top/ui` | what is drawn: `draw` (cells to bytes), `glyphs`, `paint` (the whole screen), `scene` (time and servers for it), `header` (servers, and whether their trouble is told; totals, levels), `table` (titles, rows), `popup` (help, pickers, details) |
//! | `cli/check` | why no record arrives, and what to do: `daemon` (what STATUS says), `dovecot` (its configuration; the daemon that its master starts), `bridge` (whether it runs; Dovecot 2.4's exporter of events), `writers` (users of mail processes), `fifo`, `denials` (by AppArmor, SELinux) |
//! | `cli/demo` | `program` (which daemon it runs), `stage` (its directory), `worker` |
//! | `cli/bridge` | events made into records: `mod` (the loop: in which order it looks at the FIFO, events and anvil), `listen` (the socket that events come by; `http`), `events` (a line taken apart), `apply` (what an event changes), `asker` (when anvil is asked), `anvil` (its list of connections), `join` (these matched with sessions, so that a session's process is known), `processes` (when they are looked at, what they use and used before a restart), `sockets` (whom they are connected to), `resume` (sessions of an earlier run), `sessions` (those followed; `connections`: what a match changes; `delivery`: the records about them) |
//!
//! `daemon`: the loop, and everything that waits for it.
//!
//! | folder | what lives there |
//! |---|---|
//! | `daemon` | `server` (what is done in which order, and which clients are closed when the system has no memory), `reload` (settings read again at HUP, changes that need a restart), `files` (FIFOs, sockets and a base_dir that vanish made again), `snapshot` (the state written and read, what did not fit logged), `level_walk` (rows in slices), `faults` (of peers, counted), `log` (and its files), `clocks` (read once a turn), `options` (its command line) |
//! | `daemon/start` | from settings to listeners: `startup`, `listen`, `listing` (in the log), `identity` (user and privileges), `limits`, `preflight` (what `-t` finds missing), `pidfile`, `sd_notify` |
//! | `daemon/input` | `fifo` (read, and looked for at its path), `records` (lines decoded and applied, with what is kept for that), `rest` (when FIFOs are read), `slow` (its log), `waiting` (the log line when nothing comes) |
//! | `daemon/serve` | `listener` (what clients connect to), `client` (a connection: its requests, its output and what of that is held back, whether it is idle), `clients` (which are accepted and kept: `client_limit`, their memory), `context` (what they may change), `protocol` (the interface): `export`, `status`, `http` with `scrape` and `health` (metrics) |
//! | `daemon/push` | `carbon` (the connection), `batch` (what is sent), `resolve` (names of hosts: getent and its environment) |
//! | `daemon/master` | Dovecot's own master as the starter: its `environment`, `listeners` and `settings`, `handover` at a reload, `leaving` |
//!
//! [`report`], for other programs: `meter` and `children` (what they use), `sample` and
//! `proc_files` (what another process uses), `session` (told to the daemon, and again to a
//! new one) and its `session_id`, `fifo_writer` (which waits for no reader).
//!
//! `config`: settings.
//!
//! | folder | what lives there |
//! |---|---|
//! | `config` | `table` (the one table of settings), `value` (kinds of values, as paths and addresses), `settings` (as the daemon sees them), `origin` (where each was given), `print` (settings back to text, which reads back the same), `reply` (of Dovecot's master), `mistake`, `fatal` (what ends a program), `own_files` |
//! | `config/text`, `config/build` | files to items, those of `!include` by `glob`; items to settings: `dovecot` (Dovecot's own files), `check` (between settings), `hint` |
//!
//! `wire`: bytes to values and back, pure.
//!
//! | folder | what lives there |
//! |---|---|
//! | `wire` | `lines` (of a FIFO, cut), `record` (a line taken apart: texts, addresses, numbers), `compose` (a record written), `request`, `reply` (header and rows), `http`, `metrics`, `carbon`, `getent` |
//! | `wire/encoding` | `base64`, `escape`, `number` (digits written), `pen` (which writes rows, field by field) |
//! | `wire/state` | a saved store as bytes: `item` (what there is), `field` (how a value is written) |
//!
//! `store`: the statistics, pure.
//!
//! | folder | what lives there |
//! |---|---|
//! | `store` | `record` (the input, and what is remarkable in it), `row` (the output: an entry's or a kind's row, and whether it has any), `filter` (what a request selects), `wildcard` (patterns of filters and of includes), `time`, `check` (all invariants) |
//! | `store/update` | `apply` (what a record changes, one function for each kind), `over` (what counts when a command is over), `room` (made for a record, and the reserve for growth given back: when to evict and compact), `evict` (what is freed first), `compact` (entries move), `deferral` (what sessions counted and their parents add later), `prefetch` (for records, and for rows of walks) |
//! | `store/entries` | `entry` (the kinds, and in what they differ), `lifecycle` (entries found by their key's hash, created, linked, pinned, freed), `contents` (texts and counters), `table` (a level: order, key, age), `untracked` (sessions without room) |
//! | `store/counters` | what an entry counts; `packed` (in few bytes: groups, widths, those for new entries), `packed/change` (changed in place) |
//! | `store/kinds` | services and names of commands; `latency` (histograms), `slow` (which commands are logged) |
//! | `store/query` | `plan` (where a walk goes, in which order), `cursor` (in slices), `filter_eval` (which entries fit, as by `since=`), `rank` (the biggest), `pick` (entries noted for later) |
//! | `store/snapshot` | `values` (what is saved of an entry), `save` (by importance), `restore` (entries made of them), `order` (those of a level by number and by age), `pending` (what parents had not added yet) |
//! | `store/mem` | `slab` (slots of pages taken and given back), `vacancies` (which are vacant, which page is the fullest), `arena` (entries by link), `heap` (blobs, in classes of sizes), `list`, `index` (by hash), `budget` (bytes used, pages kept, the reserve for growth) |
//!
//! `stats`: the one table of statistics fields; stats fields decoded (values of an item that
//! is gone are cleared) and encoded, their arithmetic; `wire_struct`: where a value is in a
//! C struct.
//!
//! `sys`: the operating system, and the only unsafe code.
//!
//! | folder | what lives there |
//! |---|---|
//! | `sys` | `terminal` (its bytes, size, modes), `syslog`, `local_time` (dates) |
//! | `sys/fd` | `poll`; descriptors `inherited` and `pass`ed on, `notify` (systemd), `output` (a line that never blocks) |
//! | `sys/fs` | `fifo` (opened to be read), `socket` (listeners with their backlog, connections), `passed` (by a service manager), `created` (owner and mode of what is made), `path_walk` (the way to a directory, made where it is missing, past other users' symlinks), `dir` (files in it by name), `lock`, `lookup` (what lies at a path), `trust` (by owner and mode), `writer` (a FIFO opened for writing) |
//! | `sys/proc` | `process` (itself), `user`, `privileges`, `signal`, `sigpipe` (writing without it), `child` (how it ended), `subprocess` (how a program is started for its output), `snapshot_child` (a copy that writes the state), `usage` |
//! | `sys/mem` | `page` (frames from the kernel, and whether their bytes were written), `limits`, `reserve` (for when the system has no memory), `resident` (what an idle process gives back), `bytes` (search), `vector` (base64 by AVX2, many blocks at once) |
//!
//! `dovestatd` is `daemon::main`, `dovestat` is `cli::main`, and `dovestat bridge` executes
//! `dovestat-bridge`, which is `cli::bridge_main`. Tests of one file are in it
//! or in `tests` beside it; those of the programs are in `tests/integration`.
//!
//! # To add something
//!
//! | to add | touch these | beside |
//! |---|---|---|
//! | a statistics field | `stats/mod` (its row), `stats/wire_struct` (the C struct), `cli/column` (its title in `top`), `store/counters/mod` (how many are added at once) | tests of sizes; `report/meter` if this host can measure it; dovestat-protocol(7); what older writers send has the item without the field |
//! | a level with totals | `store/mod` (`Level`, its table), `store/entries/entry` (its row of `parents!`, its place in sessions), `store/update/apply` and `room` (which one a record is about), `store/row` (its `Key`), `store/filter`, `wire/request` and `cli/args/filter` (its filter), `store/snapshot` (`restore`: found for a session; `values`, `save`: older states have no place for the level in a session's `pending`), `wire/state/item` (its item), `config/table` (its min_time), `cli/column`, `cli/top/level` | `daemon/server` and `cli/top/view`, `ui/popup` where a key, a filter or a status names it; `wire/metrics`, `store/query/plan`; limits in tests; manuals, sample configuration |
//! | a level without entries, as services | `store/mod` (`Level`), `store/kinds`, `store/row` (its row), `store/update/apply` (where a record counts), `store/snapshot` (`values`, `save`, `restore`) and `wire/state/item`, `wire/reply`, `wire/metrics`, `wire/carbon`, `cli/top/level` | manuals |
//! | a setting | `config/settings` (its field), `config/table` (its row: also `-a`, `needs_restart`), where it is used, `daemon/reload` if it is copied; `config/value` for a new kind of value | dovestatd.conf(5), sample configuration, `config/tests/print` |
//! | a protocol of a listener | `config/settings` (`Protocol`), `config/value` (its word), `config/table` (the phrase), `config/build/check` (settings that mean nothing with it); `daemon/serve/NEW` (a `Conversation`), `mod`, `client`, `daemon/start/listing`; `wire/NEW` if its bytes are new | dovestatd.conf(5), dovestat-protocol(7) |
//! | an output format of `dump` | `cli/format/mod` (`Format`), `cli/args/table` (the phrase of `-f`) | dovestat(1), README |

// Without `internals`, the compiler tells what nothing uses; with it, what is public in
// a room and reaches nobody outside of it.
#![cfg_attr(feature = "internals", deny(unreachable_pub))]
#![cfg_attr(not(feature = "internals"), deny(missing_docs))]

pub mod report;

// The other rooms are public for tests, benchmarks and fuzz targets alone.
#[cfg(feature = "internals")]
pub mod cli;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(feature = "internals")]
pub mod daemon;
#[cfg(feature = "internals")]
pub mod stats;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(feature = "internals")]
pub mod sys;
#[cfg(feature = "internals")]
pub mod wire;

#[cfg(not(feature = "internals"))]
mod cli;
#[cfg(not(feature = "internals"))]
mod config;
#[cfg(not(feature = "internals"))]
mod daemon;
#[cfg(not(feature = "internals"))]
mod stats;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(not(feature = "internals"))]
mod sys;
#[cfg(not(feature = "internals"))]
mod wire;

pub use cli::{bridge_main as dovestat_bridge, main as dovestat};
pub use daemon::main as dovestatd;
