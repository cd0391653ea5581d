//! The starters for systems without systemd, run, and the RPM, built: with this
//! machine's own tools, in directories of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{
    is_root, lacking, program, skipped, text, wait_until, works, Daemon, Setup, TempDir,
};
use crate::link::Client;

/// A file of the packaging.
fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(name)
}

/// A starter with other paths in it, and what it says to a word.
struct Starter(String);

impl Starter {
    #[track_caller]
    fn run(&self, word: &str) -> Output {
        let output = Command::new(&self.0).arg(word).output();
        output.expect("run the starter")
    }

    /// The exit status.
    #[track_caller]
    fn status(&self, word: &str) -> Option<i32> {
        let output = self.run(word);
        println!("{word}: {}{}", text(&output.stdout), text(&output.stderr));
        output.status.code()
    }
}

#[test]
fn the_sysv_starter_starts_and_stops() {
    let test = "the_sysv_starter_starts_and_stops";
    if !works(test, &["start-stop-daemon", "--version"]) {
        return;
    }
    let dir = TempDir::new("sysv");
    let config = dir.write(
        "dovestatd.conf",
        &Setup::new()
            .config(&dir)
            .replace("stderr", &dir.at("daemon.log")),
    );
    let pidfile = dir.at("pid");
    let script = fs::read_to_string(packaging("sysv/dovestatd")).expect("the starter");
    let mut changed = script.clone();
    for (old, new) in [
        (
            "DAEMON=/usr/sbin/dovestatd",
            format!("DAEMON={}", program()),
        ),
        ("PIDFILE=/run/dovestatd.pid", format!("PIDFILE={pidfile}")),
        ("DAEMON_ARGS=\n", format!("DAEMON_ARGS='-c {config}'\n")),
        ("/etc/default/dovestatd", dir.at("default")),
    ] {
        assert!(changed.contains(old), "{old}");
        changed = changed.replace(old, &new);
    }
    let starter = Starter(dir.write("starter", &changed));
    fs::set_permissions(&starter.0, PermissionsExt::from_mode(0o755)).expect("chmod");
    let pid = || fs::read_to_string(&pidfile).expect("the pidfile");
    let answers = || {
        Client::unix(&dir.at("run/stats"))
            .export("global")
            .rows
            .len()
            == 1
    };

    assert_eq!(starter.status("status"), Some(3));
    assert_eq!(starter.status("stop"), Some(0), "nothing to stop");
    assert_eq!(starter.status("start"), Some(0));
    // It serves when that is said.
    assert!(answers());
    let first = pid();
    assert_eq!(starter.status("start"), Some(0), "already");
    assert_eq!((starter.status("status"), pid()), (Some(0), first.clone()));
    assert_eq!(starter.status("reload"), Some(0));
    assert_eq!(starter.status("restart"), Some(0));
    assert!(answers() && pid() != first);
    // A mistake ends nothing.
    let second = pid();
    let good = fs::read_to_string(&config).expect("the configuration");
    dir.write("dovestatd.conf", "nonsense = 1\n");
    assert_eq!(starter.status("restart"), Some(78));
    assert!(answers() && pid() == second);
    assert_eq!(starter.status("stop"), Some(0));
    assert!(!Path::new(&pidfile).exists() && !Path::new(&dir.at("run/stats")).exists());
    assert_eq!(starter.status("start"), Some(78), "why it did not start");
    dir.write("dovestatd.conf", &good);
    assert_eq!(starter.status("nonsense"), Some(64));
}

/// What a pidfile may have that a service user wrote to: every process, the first one,
/// groups, what is no number, and a living process that is no daemon.
const FORGED: [&str; 9] = [
    "-1",
    "1",
    "0",
    "-2",
    "",
    "+1",
    "1 2",
    "../self",
    "BYSTANDER",
];

/// Runs a command of a starter with each forged pidfile, in namespaces that keep what
/// goes wrong from this machine: it must fail, and signal neither their first process
/// nor a bystander.
fn try_forged_pidfiles(test: &str, dir: &TempDir, command: &str) {
    let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"];
    if !is_root() {
        return skipped(test, "it needs root");
    }
    if !works(test, &[&unshare[..], &["true"]].concat()) {
        return;
    }
    let pidfile = dir.at("pid");
    let script = "mount -t proc proc /proc || exit
        sleep 100 &
        bystander=$!
        until grep -q sleep /proc/$bystander/comm; do :; done
        content=$1
        [ \"$content\" != BYSTANDER ] || content=$bystander
        echo \"$content\" >\"$2\"
        trap 'echo first was hit' HUP TERM
        sh -c \"$3\" && echo succeeded
        kill -KILL $bystander
        wait $bystander
        [ $? = 137 ] && echo unharmed";
    for content in FORGED {
        let done = Command::new(unshare[0])
            .args(&unshare[1..])
            .args(["sh", "-c", script, "sh", content, &pidfile, command])
            .output();
        let done = done.expect("run unshare");
        let said = text(&done.stdout);
        let lines: Vec<&str> = said.lines().collect();
        let fault = format!("{content:?}: {said}{}", text(&done.stderr));
        assert_eq!(lines.last(), Some(&"unharmed"), "{fault}");
        assert!(!lines.contains(&"first was hit"), "{fault}");
        assert!(!lines.contains(&"succeeded"), "{fault}");
    }
    fs::remove_file(&pidfile).expect("remove the pidfile");
}

#[test]
fn the_sysv_starter_signals_no_process_but_the_daemon() {
    let test = "the_sysv_starter_signals_no_process_but_the_daemon";
    if !works(test, &["start-stop-daemon", "--version"]) {
        return;
    }
    let dir = TempDir::new("sysvforged");
    let script = fs::read_to_string(packaging("sysv/dovestatd")).expect("the starter");
    let changed = script
        .replace("DAEMON=/usr/sbin/dovestatd", "DAEMON=/bin/true")
        .replace("/run/dovestatd.pid", &dir.at("pid"));
    let starter = dir.write("starter", &changed);
    try_forged_pidfiles(test, &dir, &format!("sh {starter} reload"));
    let stop = format!("sh {starter} stop; false");
    try_forged_pidfiles(test, &dir, &stop);
}

/// OpenRC's starter, with stand-ins for what OpenRC has: its reload is the script's own.
fn openrc(dir: &TempDir) -> String {
    let script = fs::read_to_string(packaging("openrc/dovestatd")).expect("the starter");
    let (old, new) = ("/run/dovestatd.pid", dir.at("pid"));
    assert!(script.contains(old));
    let script = script.replace(old, &new);
    dir.write(
        "openrc",
        &format!("ebegin() {{ :; }}\neend() {{ return $1; }}\n{script}\n\"$@\"\n"),
    )
}

#[test]
fn the_openrc_starter_signals_no_process_but_the_daemon() {
    let test = "the_openrc_starter_signals_no_process_but_the_daemon";
    let dir = TempDir::new("openrcforged");
    let starter = openrc(&dir);
    try_forged_pidfiles(test, &dir, &format!("sh {starter} reload"));

    let daemon = Daemon::start("openrcreload");
    dir.write("pid", &format!("{}\n", daemon.pid()));
    let done = Command::new("sh").args([&starter, "reload"]).output();
    let done = done.expect("run sh");
    assert!(done.status.success(), "{}", text(&done.stderr));
    wait_until("its reload", || daemon.log().contains("reload"));
}

/// The stand-ins for Fedora's macros, by which the build is that of cargo here.
fn fedora(build: &Path) -> Vec<String> {
    let copy = format!(
        "mkdir -p target/release; cp {0}/dovestat {0}/dovestatd {0}/dovestat-bridge target/release",
        build.display()
    );
    [
        ("cargo_prep", "true"),
        ("cargo_generate_buildrequires", "true"),
        ("cargo_build", &copy),
        ("_unitdir", "/usr/lib/systemd/system"),
        ("_sysusersdir", "/usr/lib/sysusers.d"),
        ("_tmpfilesdir", "/usr/lib/tmpfiles.d"),
        ("_pkgdocdir", "/usr/share/doc/dovestat"),
        ("debug_package", "%{nil}"),
    ]
    .into_iter()
    .flat_map(|(name, value)| ["--define".to_owned(), format!("{name} {value}")])
    .collect()
}

#[test]
fn the_rpm_has_all_files() {
    let test = "the_rpm_has_all_files";
    if Command::new("rpmbuild").arg("--version").output().is_err() {
        return lacking(test, "rpmbuild");
    }
    let dir = TempDir::new("rpm");
    let version = env!("CARGO_PKG_VERSION");
    let tree = dir.at(&format!("dovestat-{version}"));
    fs::create_dir(&tree).expect("mkdir");
    fs::create_dir(dir.at("SOURCES")).expect("mkdir");
    let shell = |script: &str| {
        let done = Command::new("sh").args(["-ec", script]).output();
        let done = done.expect("run sh");
        assert!(done.status.success(), "{script}: {}", text(&done.stderr));
    };
    let top = env!("CARGO_MANIFEST_DIR");
    shell(&format!(
        "cp -R {top}/COPYING {top}/README.md {top}/man {top}/packaging {tree}; \
         tar -C {} -czf {}/dovestat-{version}.tar.gz dovestat-{version}",
        dir.at(""),
        dir.at("SOURCES")
    ));
    let build = Path::new(program()).parent().expect("a directory");
    let spec = packaging("rpm/dovestat.spec").display().to_string();
    let built = Command::new("rpmbuild")
        .args(["-bb", "--nodeps", "--nocheck", "--define"])
        .arg(format!("_topdir {}", dir.at("")))
        .args(fedora(build))
        .arg(&spec)
        .output()
        .expect("run rpmbuild");
    let said = text(&built.stderr);
    assert!(built.status.success(), "{said}");
    assert!(!said.contains("warning"), "{said}");
    let find = format!(
        "find {} -name '*.rpm' -exec rpm -qlp {{}} +",
        dir.at("RPMS")
    );
    let listed = Command::new("sh").args(["-c", &find]).output();
    let listed = text(&listed.expect("run rpm").stdout);
    for path in [
        "/etc/dovestat/dovestatd.conf",
        "/usr/bin/dovestat",
        "/usr/libexec/dovestat/dovestat-bridge",
        "/usr/sbin/dovestatd",
        "/usr/lib/systemd/system/dovestatd.socket",
        "/usr/lib/sysusers.d/dovestat.conf",
        "/usr/share/doc/dovestat/README.md",
        "/usr/share/man/man8/dovestatd.8",
    ] {
        // Manual pages may be compressed.
        let is_it = |line: &str| line.strip_suffix(".gz").unwrap_or(line) == path;
        assert!(listed.lines().any(is_it), "{path} in {listed}");
    }
}
