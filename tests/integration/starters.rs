//! The starters for systems without systemd, run, and the RPM, built: with this
//! machine's own tools, in directories of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{lacking, program, text, works, Setup, TempDir};
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

/// The stand-ins for Fedora's macros, by which the build is that of cargo here.
fn fedora(build: &Path) -> Vec<String> {
    let copy = format!(
        "mkdir -p target/release; cp {0}/dovestat {0}/dovestatd target/release",
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
