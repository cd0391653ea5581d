//! What distributions package: the sample configuration against the table of
//! settings, and the installation by make.
//!
//! The Debian package itself is tested by tests/packages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dovestat::config::table::{self, Setting};

use crate::harness::{lacking, program, run, text, TempDir};

/// A file of the packaging.
pub fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(name)
}

/// The output of a program that must succeed; none, with a line that says so,
/// when it is not installed.
pub fn output(test: &str, program: &str, args: &[&str]) -> Option<Output> {
    let Ok(output) = Command::new(program).args(args).output() else {
        lacking(test, program);
        return None;
    };
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    Some(output)
}

/// The sample with its settings in force: a `#` without a blank hides a line.
fn sample_in_force(sample: &str) -> String {
    let uncovered = |line: &str| {
        let inner = line.trim_start();
        match inner.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting.to_owned(),
            _ => line.to_owned(),
        }
    };
    sample.lines().map(uncovered).collect::<Vec<_>>().join("\n")
}

/// A setting in the sample.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// The names of the sections around it.
    section: String,
    /// Its name.
    name: String,
    /// Its value.
    value: String,
    /// The comment above it, as one line.
    comment: String,
}

/// All settings of the sample, with the comments above them.
fn entries(in_force: &str) -> Vec<Entry> {
    let (mut sections, mut comment) = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for line in in_force.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim().to_owned());
            continue;
        }
        if let Some((name, value)) = line.split_once('=') {
            found.push(Entry {
                section: sections.join(" "),
                name: name.trim().to_owned(),
                value: value.trim().to_owned(),
                comment: comment.join(" "),
            });
        } else if let Some(section) = line.strip_suffix('{') {
            sections.push(section.trim().to_owned());
        } else if line == "}" {
            sections.pop();
        }
        comment.clear();
    }
    found
}

/// Takes the entries of a section, which must be the rows.
fn take<T>(entries: &mut Vec<Entry>, section: &str, rows: &[Setting<T>]) {
    for row in rows {
        let default = match (row.name, row.default) {
            ("reset", _) if section.contains("unix_listener") => "yes",
            ("mode", _) if section.contains("fifo_listener") => "0200",
            // What is said there: no such listener.
            ("port", None) => "0",
            (_, default) => default.expect("a default"),
        };
        let entry = entries.remove(0);
        assert_eq!(
            (entry.section.as_str(), entry.name.as_str()),
            (section, row.name)
        );
        assert_eq!(entry.value, default, "{section} {}", row.name);
        assert!(
            entry.comment.contains(row.about),
            "{section} {}: {}",
            row.name,
            entry.comment
        );
    }
}

#[test]
fn the_sample_has_every_setting_at_its_default() {
    let sample = fs::read_to_string(packaging("dovestatd.conf")).expect("the sample");
    assert!(sample.lines().all(|line| line.len() <= 81), "long lines");
    let in_force = sample_in_force(&sample);
    let mut entries = entries(&in_force);
    take(&mut entries, "", table::TOP);
    take(&mut entries, "service stats", table::SERVICE);
    for name in table::FIFO_NAMES {
        take(
            &mut entries,
            &format!("service stats fifo_listener {name}"),
            table::FILE,
        );
    }
    for name in table::UNIX_NAMES {
        let section = format!("service stats unix_listener {name}");
        take(&mut entries, &section, table::FILE);
        take(&mut entries, &section, table::OPTIONS);
    }
    take(&mut entries, "service stats inet_listener", table::INET);
    assert_eq!(entries, []);

    let dir = TempDir::new("sample");
    for text in [&sample, &in_force] {
        let file = dir.write("dovestatd.conf", text);
        // An ordinary user's base_dir is another.
        let base_dir = ["-o", "base_dir=/run/dovestat"];
        let print = |args: &[&str]| {
            let output = run(&[args, &base_dir].concat());
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            String::from_utf8(output.stdout).expect("text")
        };
        // The listener that is off is not a default.
        let all = print(&["-c", &file, "-a"]);
        let without = all.split("  inet_listener {").next().expect("a beginning");
        assert!(print(&["-c", "/dev/null", "-a"]).starts_with(without));
    }
}

/// Whoever wants one setting takes one `#` away.
#[test]
fn every_line_of_the_sample_can_be_uncommented_alone() {
    let sample = fs::read_to_string(packaging("dovestatd.conf")).expect("the sample");
    let lines: Vec<&str> = sample.lines().collect();
    let uncovered: Vec<String> = lines.iter().map(|line| sample_in_force(line)).collect();
    let dir = TempDir::new("lines");
    let mut changed = 0;
    for index in (0..lines.len()).filter(|index| uncovered[*index] != lines[*index]) {
        let mut text = lines.clone();
        text[index] = &uncovered[index];
        let file = dir.write("dovestatd.conf", &text.join("\n"));
        let output = run(&["-n", "-c", &file]);
        assert!(output.status.success(), "{}: {output:?}", text[index]);
        changed += 1;
    }
    assert!(changed > 30, "{changed}");
    // One that matters: who may report.
    let mail = lines
        .iter()
        .position(|line| line.contains("fifo_listener stats-mail"));
    let user = mail.expect("the section") + 2;
    let mut text = lines.clone();
    text[user] = "    user = vmail";
    let file = dir.write("dovestatd.conf", &text.join("\n"));
    let printed = run(&["-n", "-c", &file]).stdout;
    let expected = "  fifo_listener stats-mail {\n    user = vmail\n  }\n";
    assert!(
        crate::harness::text(&printed).contains(expected),
        "{}",
        crate::harness::text(&printed)
    );
}

/// Installs everything below `dir`, the units with the daemon at its place there.
pub fn install(dir: &TempDir, prefix: &str, destination: &str) -> Output {
    let build = Path::new(program())
        .parent()
        .expect("a directory")
        .display()
        .to_string();
    Command::new("make")
        .arg("-C")
        .arg(packaging(""))
        .args(["-s", "install", "INIT=systemd sysv openrc"])
        .arg(format!("BUILD={build}"))
        .arg(format!("PREFIX={prefix}"))
        .arg(format!("DESTDIR={destination}"))
        .arg(format!(
            "sysconfdir={}",
            if destination.is_empty() {
                dir.at("etc")
            } else {
                "/etc".to_owned()
            }
        ))
        .stdin(Stdio::null())
        .output()
        .expect("run make")
}

/// All files below a directory, with their modes.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            found.extend(
                files(&path)
                    .into_iter()
                    .map(|file| format!("{name}/{file}")),
            );
        } else {
            let mode = path.metadata().expect("its mode").permissions().mode() & 0o7777;
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            found.push(format!("{name} {mode:o}"));
        }
    }
    found.sort();
    found
}

#[test]
fn make_installs_below_a_directory() {
    if Command::new("make").arg("--version").output().is_err() {
        return lacking("make_installs_below_a_directory", "make");
    }
    let dir = TempDir::new("install");
    let root = dir.at("stage");
    let output = install(&dir, "/usr", &root);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        files(Path::new(&root)),
        [
            "etc/apparmor.d/abstractions/dovecot-common.d/dovestat 644",
            "etc/dovestat/dovestatd.conf 644",
            "etc/init.d/dovestat-bridge 755",
            "etc/init.d/dovestatd 755",
            "usr/bin/dovestat 755",
            "usr/lib/systemd/system/dovestat-bridge.path 644",
            "usr/lib/systemd/system/dovestat-bridge.service 644",
            "usr/lib/systemd/system/dovestatd-clients.socket 644",
            "usr/lib/systemd/system/dovestatd.service 644",
            "usr/lib/systemd/system/dovestatd.socket 644",
            "usr/lib/sysusers.d/dovestat.conf 644",
            "usr/lib/tmpfiles.d/dovestat.conf 644",
            "usr/libexec/dovestat/dovestat-bridge 755",
            "usr/sbin/dovestatd 755",
            "usr/share/bash-completion/completions/dovestat 644",
            "usr/share/doc/dovestat/COPYING 644",
            "usr/share/doc/dovestat/NEWS 644",
            "usr/share/doc/dovestat/README.SELinux 644",
            "usr/share/doc/dovestat/README.md 644",
            "usr/share/dovestat/99-dovestat.conf 644",
            "usr/share/fish/vendor_completions.d/dovestat.fish 644",
            "usr/share/man/man1/dovestat.1 644",
            "usr/share/man/man5/dovestatd.conf.5 644",
            "usr/share/man/man7/dovestat-protocol.7 644",
            "usr/share/man/man8/dovestatd.8 644",
            "usr/share/zsh/site-functions/_dovestat 644",
        ]
    );
    // What an administrator wrote stays.
    let config = format!("{root}/etc/dovestat/dovestatd.conf");
    fs::write(&config, "# mine\n").expect("write it");
    assert!(install(&dir, "/usr", &root).status.success());
    assert_eq!(fs::read_to_string(&config).expect("read it"), "# mine\n");
}

/// The fragment has the FIFOs that are there by default and the bridge's socket, and the
/// parser takes it where profiles include it.
#[test]
fn the_apparmor_fragment_lets_dovecot_report() {
    let test = "the_apparmor_fragment_lets_dovecot_report";
    let fragment = fs::read_to_string(packaging("apparmor/dovestat")).expect("the fragment");
    let names = table::FIFO_NAMES
        .map(|name| name.trim_start_matches("stats-"))
        .join(",");
    let dir = "/{,var/}run/dovestat";
    let rule = format!("{dir}/events rw,\n{dir}/stats-{{{names}}} w,\n");
    assert!(fragment.ends_with(&rule), "{fragment}");
    let dir = TempDir::new("apparmor");
    let profile = dir.write(
        "profile",
        &format!(
            "profile imap /usr/lib/dovecot/imap {{\n  include \"{}\"\n}}\n",
            packaging("apparmor/dovestat").display()
        ),
    );
    output(test, "apparmor_parser", &["-Q", "-T", "-K", &profile]);
}

#[test]
fn starters_are_well_formed() {
    let test = "starters_are_well_formed";
    let paths: Vec<String> = [
        "sysv/dovestatd",
        "openrc/dovestatd",
        "openrc/dovestat-bridge",
        "alpine/APKBUILD",
        "alpine/dovestat.pre-install",
        "debian/dovestat.postrm",
        "debian/tests/service",
        "debian/tests/client",
    ]
    .map(|name| packaging(name).display().to_string())
    .into();
    for path in &paths {
        output(test, "sh", &["-n", path]);
    }
    // OpenRC and abuild read their files' variables, and have some of their own.
    let known = ["--shell=sh", "--exclude=SC2034,SC2154"];
    let bash = [
        "build-deb",
        "../tests/architectures",
        "../tests/container",
        "../tests/dovecot-2.4/steps",
        "../tests/packages",
        "../tests/run",
    ]
    .map(|name| packaging(name).display().to_string());
    for (options, paths) in [(&known[..], &paths[..]), (&["-x"], &bash)] {
        let paths = paths.iter().map(String::as_str);
        output(
            test,
            "shellcheck",
            &options.iter().copied().chain(paths).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn versions_agree() {
    let test = "versions_agree";
    let version = env!("CARGO_PKG_VERSION");
    let read = |name: &str| fs::read_to_string(packaging(name)).expect("a file");
    assert!(read("debian/changelog").starts_with(&format!("dovestat ({version}-")));
    assert!(read("alpine/APKBUILD").contains(&format!("\npkgver={version}\n")));
    let spec = packaging("rpm/dovestat.spec").display().to_string();
    let query = ["-q", "--qf", "%{name} %{version}", &spec];
    if let Some(output) = output(test, "rpmspec", &query) {
        assert_eq!(text(&output.stdout), format!("dovestat {version}"));
    }
}
