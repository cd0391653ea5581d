//! Metrics about the daemon itself: what came in, what of it was wrong, what is kept in
//! how much memory.
//!
//! Everything is counted since the daemon started; RESET changes nothing here.

use crate::daemon::input::fifo::FifoInput;
use crate::daemon::serve::context::Context;
use crate::store::Level;
use crate::wire::metrics::{Family, Format, Kind};

/// Appends them: few and short lines, whatever the store keeps.
pub(crate) fn write_health(output: &mut Vec<u8>, format: Format, context: &Context) {
    let mut metrics = Metrics { output, format };
    let usage = context.store.usage();
    metrics
        .family("dovestat_build", "The program that serves", Kind::Info)
        .labelled("version", [(env!("CARGO_PKG_VERSION"), 1)]);
    metrics
        .family(
            "process_start_time_seconds",
            "When the daemon started, in seconds since 1970",
            Kind::Gauge,
        )
        .single(context.start_secs.into());
    let fifos = |count: fn(&FifoInput) -> u64| {
        let sample = move |fifo| (FifoInput::name(fifo), count(fifo));
        let current = context.fifos.iter().filter(|input| input.is_current());
        current.map(sample)
    };
    metrics
        .family(
            "dovestat_fifo_records",
            "Lines read from FIFOs, refused ones included",
            Kind::Counter,
        )
        .labelled("fifo", fifos(FifoInput::line_count));
    metrics
        .family(
            "dovestat_fifo_read_bytes",
            "Bytes read from FIFOs",
            Kind::Counter,
        )
        .labelled("fifo", fifos(FifoInput::read_bytes));
    metrics
        .family(
            "dovestat_faults",
            "What peers did wrong or unexpectedly: records refused or corrected, requests refused",
            Kind::Counter,
        )
        .labelled("reason", context.faults.counts());
    let levels = || Level::ALL.map(Level::name).into_iter();
    metrics
        .family("dovestat_entries", "Entries kept now", Kind::Gauge)
        .labelled(
            "level",
            levels().zip(usage.entries.map(|count| count as u64)),
        );
    metrics
        .family(
            "dovestat_evictions",
            "Entries freed to make room",
            Kind::Counter,
        )
        .labelled("level", levels().zip(usage.evictions));
    for (name, about, bytes) in [
        (
            "dovestat_memory_used_bytes",
            "Memory used for statistics",
            usage.used_bytes,
        ),
        (
            "dovestat_memory_resident_bytes",
            "Memory resident for statistics: used, and pages kept for the next that are needed",
            usage.resident_bytes,
        ),
        (
            "dovestat_memory_lost_bytes",
            "Part of the memory used that lies vacant between entries",
            usage.lost_bytes,
        ),
        (
            "dovestat_memory_limit_bytes",
            "Most memory that may be used for statistics",
            usage.limit_bytes,
        ),
    ] {
        metrics
            .family(name, about, Kind::Gauge)
            .single(bytes as u64);
    }
    metrics
        .family(
            "dovestat_connected_clients",
            "Clients connected now, this one included",
            Kind::Gauge,
        )
        .single(context.client_count as u64);
}

/// The output, and how it is written.
struct Metrics<'a> {
    output: &'a mut Vec<u8>,
    format: Format,
}

impl<'a> Metrics<'a> {
    /// Begins a family. The unit is the last word of its name.
    #[inline(never)]
    fn family(&mut self, name: &'a str, about: &'a str, kind: Kind) -> Samples<'_> {
        let family = Family {
            name: name.into(),
            about,
            kind,
            unit: ["seconds", "bytes"]
                .into_iter()
                .find(|unit| name.ends_with(unit)),
        };
        family.write(self.output, self.format);
        Samples {
            output: self.output,
            family,
        }
    }
}

/// The samples of a family.
struct Samples<'a> {
    output: &'a mut Vec<u8>,
    family: Family<'a>,
}

impl Samples<'_> {
    fn single(self, number: u64) {
        self.family.write_number(self.output, &[], number);
    }

    /// One for each value of a label.
    #[inline(never)]
    fn labelled<L: AsRef<str>>(self, name: &str, samples: impl IntoIterator<Item = (L, u64)>) {
        for (value, number) in samples {
            let labels = [(name, value.as_ref().as_bytes())];
            self.family.write_number(self.output, &labels, number);
        }
    }
}
