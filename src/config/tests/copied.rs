//! Blocks as they stand in Dovecot's configurations.

use super::*;

#[test]
fn of_2_2() {
    let settings = good(
        "\
# statistics, see the wiki
service stats {
  executable = stats
  fifo_listener stats-mail {
    user = vmail
    mode = 0600
  }
  unix_listener stats {
    mode = 0666
  }
  inet_listener {
    address = 127.0.0.1
    port = 24242
  }
}
stats_memory_limit = 16 M
stats_command_min_time = 1 mins
stats_domain_min_time = 12 hours
stats_ip_min_time = 12 hours
stats_session_min_time = 15 mins
stats_user_min_time = 1 hours
",
    );
    let mut expected = untouched();
    expected.fifo_listeners[0].user = Some("vmail".into());
    expected.fifo_listeners[0].mode = 0o600;
    expected.unix_listeners[0].file.mode = 0o666;
    expected.inet_listeners.push(InetListener {
        addresses: vec![Address::Ip([127, 0, 0, 1].into())],
        port: 24242,
        ..InetListener::new(None)
    });
    assert_eq!(settings, expected);
}

#[test]
fn of_2_3_with_everything_doveconf_prints() {
    let settings = good(
        "\
old_stats_carbon_interval = 30 secs
old_stats_carbon_name = 
old_stats_carbon_server = 
old_stats_memory_limit = 32 M
service old-stats {
  chroot = empty
  client_limit = 0
  drop_priv_before_exec = no
  executable = old-stats
  extra_groups = 
  fifo_listener old-stats-mail {
    group = $default_internal_group
    mode = 0660
    user = 
  }
  fifo_listener old-stats-user {
    group = 
    mode = 0600
    user = $default_login_user
  }
  group = 
  idle_kill = 4294967295 secs
  inet_listener web {
    address = 
    haproxy = no
    port = 24242
    reuse_port = yes
    ssl = no
  }
  privileged_group = 
  process_limit = 1
  process_min_avail = 0
  protocol = 
  service_count = 0
  type = 
  unix_listener old-stats {
    group = 
    mode = 0600
    user = 
  }
  user = $default_internal_user
  vsz_limit = 18446744073709551615 B
}
",
    );
    assert_eq!(settings.stats_memory_limit_bytes, 32 << 20);
    assert_eq!(settings.service.user, "dovecot");
    assert_eq!(settings.service.chroot.as_deref(), Some(Path::new("empty")));
    assert_eq!(settings.service.client_limit, 1000);
    let fifos: Vec<_> = settings.enabled_fifos().map(|l| &*l.name).collect();
    let names = [
        "stats-mail",
        "stats-user",
        "old-stats-mail",
        "old-stats-user",
    ];
    assert_eq!(fifos, names);
    let mail = &settings.fifo_listeners[2];
    assert_eq!((mail.group.as_deref(), mail.mode), (Some("dovecot"), 0o660));
    assert_eq!(settings.fifo_listeners[3].user.as_deref(), Some("dovenull"));
    let sockets: Vec<_> = settings
        .unix_listeners
        .iter()
        .filter(|l| l.file.is_enabled())
        .map(|l| &*l.file.name)
        .collect();
    assert_eq!(sockets, ["stats", "old-stats"]);
    assert_eq!(settings.inet_listeners[0].addresses, []);
}
