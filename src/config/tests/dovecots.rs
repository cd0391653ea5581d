//! Dovecot's own files, read as they are: what is taken, and that nothing else is.

use super::*;
use crate::store::Level;

/// A file of the data, as the main file.
fn data(name: &str) -> Source {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/data");
    Source::Named(dir.join(name))
}

/// Reads a file of Dovecot's.
#[track_caller]
fn dovecots(source: &Source) -> Configuration {
    let found = super::super::read(source, &[], &[], &defaults());
    let found = found.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(found.is_dovecots);
    found
}

/// The notices of a configuration.
fn notices(configuration: &Configuration) -> Vec<String> {
    let notices = configuration.notices.iter();
    notices.map(|notice| notice.message.clone()).collect()
}

/// The names of the FIFOs and UNIX sockets.
fn names(settings: &Settings) -> Vec<&str> {
    let fifos = settings.enabled_fifos().map(|fifo| &*fifo.name);
    let sockets = settings
        .unix_listeners
        .iter()
        .filter(|unix| unix.file.is_enabled())
        .map(|unix| &*unix.file.name);
    fifos.chain(sockets).collect()
}

/// Checks that nothing of Dovecot's own places is in the settings.
#[track_caller]
fn at_our_own_places(settings: &Settings) {
    let plain = untouched();
    assert_eq!(settings.base_dir, plain.base_dir);
    assert_eq!(settings.log_path, plain.log_path);
    assert_eq!(settings.state_dir, plain.state_dir);
    assert_eq!(settings.pidfile, plain.pidfile);
}

#[test]
fn what_doveconf_prints() {
    let all = dovecots(&data("doveconf-a.conf"));
    at_our_own_places(&all.settings);
    assert_eq!(notices(&all), [""; 0]);
    let expected = [
        "stats-mail",
        "stats-user",
        "old-stats-mail",
        "old-stats-user",
        "stats",
        "old-stats",
    ];
    assert_eq!(names(&all.settings), expected);
    assert_eq!(all.settings.service.user, "dovecot");
    // Of old-stats, not of the new statistics' section behind it.
    assert_eq!(
        all.settings.service.chroot.as_deref(),
        Some(Path::new("empty"))
    );
    let changed = dovecots(&data("doveconf-n.conf"));
    assert_eq!(changed.settings, untouched());
    assert_eq!(notices(&changed), [""; 0]);
}

#[test]
fn as_distributions_and_panels_have_them() {
    let iredmail = dovecots(&data("iredmail.conf")).settings;
    at_our_own_places(&iredmail);
    assert_eq!(iredmail.stats_memory_limit_bytes, 32 << 20);
    assert_eq!(iredmail.stats_min_time_secs[Level::Command as usize], 120);
    assert_eq!(iredmail.fifo_listeners[2].user.as_deref(), Some("vmail"));
    assert_eq!(iredmail.fifo_listeners[2].mode, 0o644);
    assert_eq!(iredmail.inet_listeners[0].port, 24242);

    let nixos = dovecots(&data("nixos.conf")).settings;
    at_our_own_places(&nixos);
    let mail = &nixos.fifo_listeners[2];
    assert_eq!(
        (mail.user.as_deref(), mail.group.as_deref()),
        (Some("vmail"), Some("vmail"))
    );
    let unix = &nixos.unix_listeners[1].file;
    assert_eq!(
        (&*unix.name, unix.group.as_deref()),
        ("old-stats", Some("dovecot2"))
    );

    let cpanel = dovecots(&data("cpanel.conf"));
    assert_eq!(cpanel.settings, untouched());
    assert_eq!(notices(&cpanel), [""; 0]);

    let docker = dovecots(&data("docker-mailserver.conf"));
    assert_eq!(docker.settings, untouched());
    assert_eq!(notices(&docker).len(), 2);

    let tree = dovecots(&data("debian/dovecot.conf")).settings;
    at_our_own_places(&tree);
    assert_eq!(tree.stats_min_time_secs[Level::Session as usize], 3600);
    assert_eq!(tree.fifo_listeners[2].name, "old-stats-mail");
}

#[test]
fn of_2_2_whose_own_service_is_switched_off() {
    let found = dovecots(&data("2.2.conf")).settings;
    at_our_own_places(&found);
    assert_eq!(names(&found), ["stats-mail", "stats-user", "stats"]);
    assert_eq!(found.service.client_limit, 20);
    assert_eq!(found.inet_listeners[0].port, 24242);
    assert_eq!(found.stats_memory_limit_bytes, 64 << 20);
}

#[test]
fn included_by_a_file_of_ours() {
    let dir = TempDir::new();
    let Source::Named(dovecot) = data("iredmail.conf") else {
        unreachable!()
    };
    let write = |behind: &str| {
        dir.write(
            "main.conf",
            format!("!include {}\n{behind}", dovecot.display()),
        )
    };
    write("base_dir = /run/mine\nstats_memory_limit = 1 M\n");
    let settings = dir.load(&["log_path=stderr"]).unwrap();
    assert_eq!(settings.base_dir, Path::new("/run/mine"));
    assert_eq!(settings.log_path, LogPath::Stderr);
    assert_eq!(settings.stats_memory_limit_bytes, 1 << 20);
    assert_eq!(settings.stats_min_time_secs[Level::Command as usize], 120);
    // What is ours stays strict, overrides as well.
    write("base_dri = /run/mine\n");
    assert_eq!(
        dir.load(&["log_patj=stderr"]).unwrap_err(),
        "main.conf:2: unknown setting \"base_dri\" (did you mean base_dir?)\n\
         -o log_patj=stderr: unknown setting \"log_patj\" (did you mean log_path?)"
    );
}

#[test]
fn mistakes_in_what_is_taken_are_reported() {
    let of = |lines: &str| wrong(format!("mail_location = maildir:~\n{lines}"));
    assert_eq!(
        of("stats_memory_limit = much\n"),
        "main.conf:2: stats_memory_limit: \"much\" is not a size: a number with B, K, M, G or T"
    );
    assert_eq!(
        of("service stats {\nfifo_listener x {\nmode = 9\n"),
        "main.conf:2: this section has no closing }\n\
         main.conf:3: this section has no closing }\n\
         main.conf:4: mode: \"9\" is not an octal mode from 0 to 07777"
    );
    assert_eq!(
        of("!include nothing.conf\n"),
        "main.conf:2: \"nothing.conf\" cannot be read: No such file or directory"
    );
    // The rest is Dovecot's to judge.
    let rest = "mail_location = maildir:~\nstats_writer_socket_path = stats-writer\n\
                nonsense\nprotocol imap {\nnonsense\n}\npassdb {\nargs = 'a' || 'b'\n}\n\
                service stats {\nvsz = 1\nunix_listener stats {\ntype = x\n}\n}\n";
    assert_eq!(good(rest), untouched());
}

/// What instructions for the statistics add to Dovecot's configuration is a mistake in
/// ours, and reported as unknown there.
#[test]
fn instructions_for_dovecot_in_a_file_of_ours() {
    let text = "\
mail_plugins = $mail_plugins old_stats
protocol imap {
  mail_plugins = $mail_plugins imap_old_stats
}
auth_stats = yes
plugin {
  old_stats_refresh = 30 secs
}
";
    let expected = "\
1: unknown setting \"mail_plugins\" (it belongs in dovecot.conf)
2: unknown section \"protocol\" (it belongs in dovecot.conf)
5: unknown setting \"auth_stats\" (it belongs in dovecot.conf)
6: unknown section \"plugin\" (it belongs in dovecot.conf)";
    assert_eq!(wrong(text).replace("main.conf:", ""), expected);
}

#[test]
fn listeners_of_the_new_statistics_are_left_to_dovecot() {
    let dir = TempDir::new();
    let path = dir.write(
        "main.conf",
        "service stats {\nunix_listener stats-reader {\nmode = 0600\n}\n\
         unix_listener login/stats-writer {\nuser = $default_login_user\n}\n\
         unix_listener stats-writer {\ngroup = $nothing\n}\n\
         inet_listener http {\nport = 9900\n}\n}\n",
    );
    let found = super::super::read(&Source::Named(path), &[], &[], &defaults()).unwrap();
    let notice = |name: &str| {
        format!(
            "unix_listener {name} is left to Dovecot: it belongs to the new statistics of \
             Dovecot 2.3"
        )
    };
    let expected = ["stats-reader", "login/stats-writer", "stats-writer"].map(notice);
    let (left, open) = found.notices.split_at(3);
    assert!(left.iter().map(|notice| &notice.message).eq(&expected));
    // All who reach the port can read.
    assert_eq!(open.len(), 1);
    assert!(open[0].message.contains("no address is set") && open[0].message.contains("9900"));
    assert_eq!(open[0].place.line, Some(11));
    assert_eq!(found.notices[1].place.line, Some(5));
    assert!(!found.is_dovecots);
    assert_eq!(names(&found.settings), names(&untouched()));
    let http = &found.settings.inet_listeners[0];
    assert_eq!((http.port, http.options.protocol), (9900, Protocol::Http));
    assert_eq!(
        good(found.settings.print(Shown::Changed, &defaults())),
        found.settings
    );
    let raw = "service stats {\ninet_listener http {\nport = 1\nprotocol = stats\n}\n}\n";
    let raw = good(raw);
    assert_eq!(raw.inet_listeners[0].options.protocol, Protocol::Stats);
    assert_eq!(good(raw.print(Shown::Changed, &defaults())), raw);
}
