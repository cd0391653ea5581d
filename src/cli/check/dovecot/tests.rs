use super::*;

/// A configuration in which everything is right, but for `changes`: each a line, and
/// what stands in its place.
fn dovecot(version: &str, changes: &[(&str, &str)]) -> Dovecot {
    let mut text = format!(
        "# {version} (9b53102964): /etc/dovecot/dovecot.conf\n{}",
        "\
auth_stats = yes
base_dir = /nonexistent/dovecot
default_internal_user = dovecot
mail_plugins = \" old_stats\"
mail_uid = vmail
plugin {
  old_stats_notify_path = /nonexistent/stats-mail
  old_stats_refresh = 30 secs
  old_stats_track_cmds = yes
}
protocols = imap lmtp
service auth {
  user = $default_internal_user
}
service old-stats {
  fifo_listener old-stats-user {
    mode = 0600
  }
}
protocol imap {
  mail_plugins = \" old_stats imap_old_stats\"
}
"
    );
    for (line, instead) in changes {
        assert!(text.contains(line), "{line}");
        text = text.replace(line, instead);
    }
    Dovecot::parse(&text)
}

/// What is wrong with it.
fn wrong(dovecot: &Dovecot) -> Vec<String> {
    let mut findings = Findings::default();
    look(dovecot, &[], &mut findings);
    let is_wrong = |found: &&(super::super::Verdict, String, Option<String>)| {
        found.0 == super::super::Verdict::Wrong
    };
    let texts = findings.0.iter().filter(is_wrong);
    texts.map(|found| found.1.clone()).collect()
}

/// What is wrong with every one of these: there are no FIFOs.
const PATHS: [&str; 2] = [
    "old_stats_notify_path = /nonexistent/stats-mail is not there",
    "auth reports to /nonexistent/dovecot/old-stats-user, which is Dovecot's own service old-stats",
];

#[test]
fn a_service_that_dovestatd_is_has_a_socket() {
    const LISTENER: &str = "  fifo_listener old-stats-user {";
    let with = |executable: &str| {
        let lines = format!(
            "  executable = {executable}\n  unix_listener sub/figures {{\n    mode = 0666\n  }}\n{LISTENER}"
        );
        dovecot("2.3.19.1", &[(LISTENER, &lines)]).service_socket()
    };
    let socket = Some(PathBuf::from("/nonexistent/dovecot/sub/figures"));
    assert_eq!(with("/usr/sbin/dovestatd -o a=b"), socket);
    assert_eq!(with("old-stats"), None);
    assert_eq!(dovecot("2.3.19.1", &[]).service_socket(), None);
}

#[test]
fn settings_are_found_by_their_sections() {
    let dovecot = dovecot("2.3.19.1", &[]);
    assert_eq!(dovecot.version, "2.3.19.1");
    assert_eq!(dovecot.auth_user().as_deref(), Some("dovecot"));
    assert_eq!(dovecot.mail_user().as_deref(), Some("vmail"));
    assert_eq!(dovecot.plugins("imap"), ["old_stats", "imap_old_stats"]);
    assert_eq!(dovecot.plugins("lmtp"), ["old_stats"]);
    assert_eq!(dovecot.mail_groups(), []);
    let shared = [(
        "mail_uid = vmail",
        "mail_access_groups = 12345,no-such-group root",
    )];
    assert_eq!(self::dovecot("2.3.19.1", &shared).mail_groups(), [12345, 0]);
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(wrong(&dovecot("2.3.19.1", &[])), PATHS);
    for (line, instead, finding) in [
        (
            "mail_plugins = \" old_stats\"",
            "mail_plugins =",
            "mail_plugins lacks old_stats: nothing is reported of lmtp",
        ),
        (
            "\" old_stats imap_old_stats\"",
            "imap_old_stats",
            "protocol imap: mail_plugins lacks old_stats: nothing is reported of imap",
        ),
        (
            " imap_old_stats",
            "",
            "protocol imap: mail_plugins lacks imap_old_stats: no command is reported",
        ),
        (
            "old_stats_refresh = 30 secs",
            "",
            "old_stats_refresh is not set: without it the plugin reports nothing",
        ),
    ] {
        let found = wrong(&dovecot("2.3.19.1", &[(line, instead)]));
        assert_eq!(found[0], finding);
        assert_eq!(found[1..], PATHS);
    }
    let unset = [("old_stats_notify_path = /nonexistent/stats-mail", "")];
    assert_eq!(
        wrong(&dovecot("2.3.19.1", &unset))[0],
        "old_stats_notify_path is not set, and /nonexistent/dovecot/old-stats-mail is not there"
    );
    let off = [("mode = 0600", "mode = 00")];
    assert_eq!(
        wrong(&dovecot("2.3.19.1", &off))[1],
        "auth reports to /nonexistent/dovecot/old-stats-user, which leads to no FIFO of dovestatd"
    );
    let silent = [("auth_stats = yes", "auth_stats = no")];
    assert_eq!(wrong(&dovecot("2.3.19.1", &silent)), PATHS[..1]);
}

#[test]
fn versions_have_their_own_names() {
    let old = dovecot("2.2.36.4", &[("old_", ""), ("old-", "")]);
    assert_eq!(
        wrong(&old),
        PATHS.map(|finding| finding.replace("old_", "").replace("old-", ""))
    );
    let new = dovecot("2.4.1", &[]);
    assert!(!new.has_statistics() && old.has_statistics());
}

#[test]
fn a_userdb_can_name_the_user() {
    let of = |userdb: &str| {
        let changes = [(
            "mail_uid = vmail",
            &*format!("userdb {{\n  args = {userdb}\n}}"),
        )];
        dovecot("2.3.19.1", &changes).mail_user()
    };
    assert_eq!(of("uid=mail gid=mail home=/x/%u").as_deref(), Some("mail"));
    assert_eq!(of("uid=%{uid}"), None);
    assert_eq!(of("username_format=%u /etc/users"), None);
}
