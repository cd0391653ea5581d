//! The classes of attacks: the promises they are made against.

/// A class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// No input in any order ends or stalls the daemon.
    Input,
    /// Lines too long, torn, in pieces.
    Lines,
    /// Wrong records leave nothing behind.
    WrongRecords,
    /// Logs are bounded, cannot be forged, and block nobody.
    Logs,
    /// Cursors survive everything.
    Cursors,
    /// Clients cost little, whatever they do.
    Clients,
    /// Costs do not blow up.
    Costs,
    /// Steps of the wall clock.
    Clocks,
    /// The memory limit holds.
    Memory,
    /// What is freed, and in which order.
    Freeing,
    /// The limit holds when nothing may be freed.
    NothingToFree,
    /// Numbers at and past their limits.
    Numbers,
    /// Totals that shrink.
    Shrinking,
    /// Sessions unknown, dead or announced late.
    Sessions,
    /// Sessions that fall silent.
    Silence,
    /// Output is escaped and whole.
    Output,
    /// Filters at all levels.
    Filters,
    /// Terminals of the client programs.
    Terminals,
    /// Receivers of carbon and the lookup of their names.
    Carbon,
    /// Clients of HTTP.
    Http,
    /// Signals and kills at every moment.
    Signals,
    /// Descriptors run out.
    Descriptors,
    /// Disks that are full and state files that are damaged.
    Disks,
    /// What lies in the way of listeners, directories and files.
    Places,
    /// Who may write, read and reset.
    Access,
    /// What servers send to the client.
    Servers,
}

impl Class {
    /// How the table calls it: the number is that of its ruling, letters are its
    /// neighbours.
    pub fn text(self) -> &'static str {
        match self {
            Class::Input => " 1 input of any kind in any order",
            Class::Lines => " 2 lines too long, torn, in pieces",
            Class::WrongRecords => " 3 wrong records",
            Class::Logs => " 4 logs",
            Class::Cursors => " 5 cursors",
            Class::Clients => " 6 clients",
            Class::Costs => " 7 costs",
            Class::Clocks => " 8 clocks",
            Class::Memory => " 9 memory limit",
            Class::Freeing => "10 order of freeing",
            Class::NothingToFree => "11 nothing to free",
            Class::Numbers => "12 numbers",
            Class::Shrinking => "13 totals that shrink",
            Class::Sessions => "14 unknown and dead sessions",
            Class::Silence => "15 silent sessions",
            Class::Output => "16 output",
            Class::Filters => "17 filters",
            Class::Terminals => "18 terminals",
            Class::Carbon => " a carbon",
            Class::Http => " b HTTP",
            Class::Signals => " c signals and kills",
            Class::Descriptors => " d descriptors",
            Class::Disks => " e disks and state files",
            Class::Places => " f places and symlinks",
            Class::Access => " g access",
            Class::Servers => " h servers that the client asks",
        }
    }
}
