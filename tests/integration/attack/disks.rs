//! Disks that are full, states that are damaged at any place, and the copy of the
//! process that writes one being killed.

use std::fs;

use crate::attack::{still_works, Class, Tally};
use crate::harness::{is_root, skipped, wait_until, works, Daemon, Setup, TempDir};
use crate::records::{add_user, seed, Random};
use crate::requests::populate;

/// Feeds users that need so much room in a state.
fn feed_users(daemon: &Daemon, count: usize) {
    let records: Vec<Vec<u8>> = (0..count)
        .map(|n| add_user(&format!("user{n}@domain{}", n % 50), "auth", ""))
        .collect();
    daemon.feed(&records);
}

#[test]
fn a_disk_may_be_full_and_have_room_again() {
    const TEST: &str = "a_disk_may_be_full_and_have_room_again";
    if !is_root() {
        return skipped(TEST, "needs root");
    }
    if !works(TEST, &["unshare", "-m", "true"]) {
        return;
    }
    let mut tally = Tally::of(Class::Disks);
    let dir = TempDir::new("tmpfs");
    fs::create_dir(dir.at("disk")).expect("mkdir");
    let disk = dir.at("disk");
    // In a mount namespace of its own, which nobody has to tidy up.
    let script = format!(
        "mount -t tmpfs -o size=2m,mode=755 tmpfs {disk} && \
         head -c 1900k /dev/zero >{disk}/filler && exec \"$@\""
    );
    let setup = Setup::new()
        .option(&format!("state_dir={disk}"))
        .option("stats_state_interval=1s")
        .wrapped(&["unshare", "-m", "sh", "-c", &script, "sh"]);
    let mut daemon = Daemon::in_dir(dir, &setup);
    let inside = format!("/proc/{}/root{disk}", daemon.pid());
    populate(&daemon);
    wait_until("a small state", || {
        fs::metadata(format!("{inside}/state")).is_ok()
    });
    let small = fs::read(format!("{inside}/state")).expect("the state");
    tally.tries(1);
    // Twice what the disk has room for.
    feed_users(&daemon, 6000);
    wait_until("the disk being full", || {
        still_works(&mut daemon);
        daemon.log().contains("No space left on device")
    });
    assert!(
        fs::read(format!("{inside}/state")).expect("it") == small,
        "the old one stays"
    );
    assert!(fs::metadata(format!("{inside}/state.new")).is_err());
    tally.tries(1);
    fs::remove_file(format!("{inside}/filler")).expect("make room");
    wait_until("the state", || {
        daemon.log().contains("can be written again")
    });
    let failed = daemon.log().matches("No space left on device").count();
    assert_eq!(failed, 1, "told of once");
    tally.check(&mut daemon);
}

#[test]
fn a_state_may_be_damaged_anywhere() {
    let mut tally = Tally::of(Class::Disks);
    let mut random = Random::new(seed("damaged states", 151));
    let daemon = Daemon::start("damaged");
    populate(&daemon);
    feed_users(&daemon, 200);
    let mut dir = daemon.stop();
    let path = dir.at("run/state");
    let good = fs::read(&path).expect("the state");
    for round in 0..60 {
        tally.tries(1);
        let mut bytes = good.clone();
        let at = random.index(bytes.len());
        match round % 5 {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => bytes.extend_from_slice(&good[at..]),
            3 => drop(bytes.splice(at..at, [0; 7])),
            _ => bytes[at..].fill(0xff),
        }
        fs::write(&path, &bytes).expect("damage the state");
        let daemon = Daemon::in_dir(dir, &Setup::new());
        let log = daemon.log();
        assert!(
            log.contains("set aside as state.bad"),
            "round {round}: {log}"
        );
        assert_eq!(
            daemon.client().export("user").rows.len(),
            0,
            "nothing of it is believed"
        );
        dir = daemon.stop();
    }
    fs::write(&path, &good).expect("write the state");
    let mut daemon = Daemon::in_dir(dir, &Setup::new());
    assert_eq!(daemon.client().export("user").rows.len(), 204);
    tally.check(&mut daemon);
}

#[test]
fn a_writer_of_the_state_that_is_killed_is_told_of_and_tried_again() {
    let mut tally = Tally::of(Class::Disks);
    let setup = Setup::new().option("stats_state_interval=1s");
    let mut daemon = Daemon::with("killedwriter", &setup);
    feed_users(&daemon, 20_000);
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let child = || {
        fs::read_to_string(&children)
            .ok()?
            .trim()
            .parse::<u32>()
            .ok()
    };
    tally.tries(1);
    wait_until("a writer being killed", || {
        child().is_some_and(|pid| {
            // SAFETY: no pointers; it may have ended meanwhile, which is no harm.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            true
        })
    });
    let state = daemon.dir.at("run/state");
    wait_until("the state", || {
        still_works(&mut daemon);
        fs::metadata(&state).is_ok() && child().is_none()
    });
    tally.check(&mut daemon);
    daemon.stop();
}
