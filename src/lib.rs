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
//! In layer order; each imports only what stands below it:
//!
//! | room | what lives there |
//! |---|---|
//! | `cli` | the client. `args`: command line, `filter` words, help, completions. `server`: addresses, connections, replies. `dump` (also `slow`), `format`: rows printed; `column` and `number`: what is known of columns, numbers as people read them. `top`: `data` (`link`: servers asked, silent ones given up; `model`: rows kept, rates; `column`: a column's title, text and target), `view` (what keys do; `levels`: the path from level to level), `ui` (drawn), `level` (what it knows of levels), `kick`. `check`: why nothing arrives (`daemon` asked by STATUS; `dovecot`'s configuration, and the daemon that its master starts; `bridge`, `writers`, `fifo`, `denials` by AppArmor and SELinux). `run`, `reset`, `demo` (`program`: which daemon it runs; `stage`: its directory). `bridge`: Dovecot 2.4 made into records: `listen` (events come), `asker` (anvil asked), `events` and `anvil` (lines taken apart), `apply` (what an event changes), `join` (which process serves a session), `processes` (what they use, and used before a restart), `resume` (the list of an earlier run's sessions), `sessions` (`delivery`: their records) |
//! | `daemon` | the loop (`server`: what is done in which order, and when memory ran out), the settings read again (`reload`), FIFOs and sockets that vanish made again (`files`), the state written and read (`snapshot`), `faults`, `log`. `start`: from settings to listeners, privileges. `input`: records, when FIFOs are read (`rest`), the `slow` log. `serve`: `listener` is what clients connect to, `client` a connection; `clients` decides which are accepted and kept; the protocols, metrics. `push`: `carbon` (the connection), what is sent (`batch`), names of hosts by getent (`resolve`). `master`: Dovecot's own master as the starter |
//! | [`report`] | for other programs: what they use, reported through a FIFO |
//! | `config` | `table`: the one table of settings. `value`: kinds of values. `text`: files to items. `build`: items to settings; `dovecot`: those of Dovecot's own files; hints. `print`: back to text |
//! | `wire` | bytes to values and back, pure: records, requests, replies, HTTP, metrics, carbon, `state` files. `encoding`: base64, `escape`, numbers, and `pen`, which writes rows |
//! | `store` | the statistics, pure. `mem`: `slab`s of pages, which slots are vacant (`vacancies`), arenas, heap, indexes, the byte `budget`. `counters`: what an entry counts, and `packed` (in few bytes; groups and widths). `entries`: `entry` (the kinds of entries; with which widths new ones begin), `lifecycle` (found, created, linked, pinned, freed), `contents` (texts and counters). `kinds`: services and names of commands, `latency` (histograms), `slow` (commands to be logged). `update`: `apply` (a record), `over` (what counts when a command is over), `room` (when to evict and compact for it), `evict` (what is freed first), `compact` (moves), `deferral`, `prefetch`. `filter`, `query`: what a request selects, plans, cursors, ranking, `pick` (entries noted for later). `snapshot`: saved by importance, `restore`d, put in `order`, what they had not added yet (`pending`) |
//! | `stats` | the one table of statistics fields; stats fields decoded and encoded, their arithmetic; `wire_struct`: where a value is in a C struct |
//! | `sys` | the operating system, and the only unsafe code. `fd`: poll, descriptors. `fs`: FIFOs, sockets, owner and mode of what is made (`created`), directories, `path_walk` past other users' symlinks. `proc`: users, privileges, signals, children. `mem`: the kernel's `page`s, limits, the allocator (`reserve`), what an idle process gives back (`resident`), `vector` (base64 by AVX2). `terminal` (bytes of keys, size, modes), `syslog`, `local_time` |
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
