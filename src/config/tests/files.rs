//! Files: which are read, in which order, and when it ends.

use super::*;

#[test]
fn the_main_file() {
    let missing = PathBuf::from("/nonexistent/main.conf");
    let load = |source| super::load(&source, &[], &defaults());
    assert_eq!(load(Source::Default(missing.clone())), Ok(untouched()));
    let mistakes = load(Source::Named(missing)).unwrap_err().to_string();
    let expected = "/nonexistent/main.conf: cannot be read: No such file or directory";
    assert!(mistakes.starts_with(expected), "{mistakes}");
    let dir = TempDir::new();
    assert!(load(Source::Default(dir.0.clone())).is_err());
}

#[test]
fn includes() {
    let dir = TempDir::new();
    dir.write(
        "main.conf",
        "stats_carbon_name = 0\n\
         !include conf.d/*.conf # all\n\
         !include \"with blank.conf\"\n\
         !include_try nosuch.conf\n\
         !include_try nosuch/*.conf\n\
         !include conf.d\n\
         service stats {\n  !include limit.inc\n}\n",
    );
    let add = |text: &str| format!("stats_carbon_name = $stats_carbon_name {text}\n");
    dir.write("conf.d/10-b.conf", add("b") + "!include ../sub/[cd].conf\n");
    dir.write("conf.d/05-a.conf", add("a"));
    dir.write("conf.d/99-z.conf~", "wrong\n");
    dir.write("conf.d/.hidden.conf", "wrong\n");
    dir.write("conf.d/dir.conf/x.conf", "wrong\n");
    dir.write("sub/c.conf", add("c"));
    dir.write("sub/d.conf", add("d") + "!include d/?/*.conf");
    dir.write("sub/d/1/e.conf", add("e"));
    dir.write("sub/d/22/wrong.conf", "wrong\n");
    dir.write("with blank.conf", add("f"));
    dir.write("limit.inc", "client_limit = 77\n");
    let settings = dir.load(&[]).unwrap();
    assert_eq!(settings.carbon_name, "0 a b c d e f");
    assert_eq!(settings.service.client_limit, 77);
}

#[test]
fn mistakes_of_includes() {
    let dir = TempDir::new();
    dir.write(
        "main.conf",
        "a = 1\n!include nosuch.conf\n!include no*such\n!include bad.conf\n!include ./main.conf\nb = 1\n",
    );
    dir.write("bad.conf", "\n}\nservice stats {\n!include bad.conf\n");
    let found = dir.load(&[]).unwrap_err();
    let expected = "\
main.conf:1: unknown setting \"a\"
main.conf:2: \"nosuch.conf\" cannot be read: No such file or directory
main.conf:3: no file matches \"no*such\"
bad.conf:2: this } closes no section
bad.conf:3: this section has no closing }
bad.conf:4: \"bad.conf\" includes itself
main.conf:5: \"./main.conf\" includes itself
main.conf:6: unknown setting \"b\"";
    assert_eq!(found, expected);
}

#[test]
fn include_depth() {
    for (depth, fits) in [(15, true), (16, true), (17, false)] {
        let dir = TempDir::new();
        dir.write("main.conf", "!include 1\n");
        for level in 1..depth {
            dir.write(&level.to_string(), format!("!include {}\n", level + 1));
        }
        dir.write(&depth.to_string(), "log_path = stderr\n");
        match dir.load(&[]) {
            Ok(settings) => assert!(fits && settings.log_path == LogPath::Stderr),
            Err(mistakes) => {
                assert!(!fits);
                let expected = "16:1: \"17\" is the end of more than 16 nested includes";
                assert_eq!(mistakes, expected);
            }
        }
    }
}

#[test]
fn number_of_files() {
    for (includes, mistakes) in [(998, 0), (999, 0), (1000, 1)] {
        let dir = TempDir::new();
        dir.write("empty", "");
        dir.write("main.conf", "!include empty\n".repeat(includes));
        let found = dir
            .load(&[])
            .map_or_else(|text| text.lines().count(), |_| 0);
        assert_eq!(found, mistakes, "{includes}");
    }
}

#[test]
fn file_size() {
    for (bytes, fits) in [
        ((1 << 20) - 1, true),
        (1 << 20, true),
        ((1 << 20) + 1, false),
    ] {
        let found = read(vec![b'\n'; bytes]);
        assert_eq!(found.is_ok(), fits, "{bytes}");
        if let Err(mistakes) = found {
            assert_eq!(mistakes, "main.conf: cannot be read: larger than 1 M");
        }
    }
    let endless = Source::Named("/dev/zero".into());
    assert!(load(&endless, &[], &defaults()).is_err());
}

#[test]
fn values_from_files() {
    let dir = TempDir::new();
    dir.write("etc/name", "mx1 $base_dir # x\n");
    dir.write("etc/lines", "a\nb\n");
    dir.write("etc/bytes", b"\xff\n");
    dir.write("etc/inner", "stats_carbon_name = < name\n");
    dir.write("main.conf", "stats_carbon_name = <etc/name\n");
    assert_eq!(dir.load(&[]).unwrap().carbon_name, "mx1 $base_dir # x");
    dir.write("main.conf", "!include etc/inner\n");
    assert_eq!(dir.load(&[]).unwrap().carbon_name, "mx1 $base_dir # x");
    dir.write("main.conf", "stats_carbon_name = \"<etc/name\"\n");
    assert_eq!(dir.load(&[]).unwrap().carbon_name, "<etc/name");
    dir.write(
        "main.conf",
        "stats_carbon_name = <etc/none\nstats_carbon_name = <etc/lines\n\
         stats_carbon_name = <etc/bytes\nlog_path = <etc/name\nno_setting = <etc/none\n",
    );
    let expected = "\
main.conf:1: stats_carbon_name: \"etc/none\" cannot be read: No such file or directory
main.conf:2: stats_carbon_name: what \"etc/lines\" contains is wrong: this host's name in carbon; \
empty: the host name up to its first dot
main.conf:3: stats_carbon_name: \"etc/bytes\" is not UTF-8 text
main.conf:4: log_path: is not read from a file (quotes keep the <)
main.conf:5: unknown setting \"no_setting\"";
    assert_eq!(dir.load(&[]).unwrap_err(), expected);
}
