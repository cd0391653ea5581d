use super::*;
use crate::sys::fs::lookup::look;
use crate::sys::proc::process::set_umask;
use crate::sys::scratch::{alone, is_root, Scratch};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

const PRIVATE: Access = Access {
    mode: 0o600,
    uid: None,
    gid: None,
};

/// Nonblocking and close-on-exec, as everything here is to be.
fn assert_flags(fd: BorrowedFd<'_>) {
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    let status = cerr(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }).unwrap();
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    let flags = cerr(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) }).unwrap();
    assert_ne!(status & libc::O_NONBLOCK, 0);
    assert_ne!(flags & libc::FD_CLOEXEC, 0);
}

#[test]
fn a_listener_listens_and_is_removed() {
    let dir = Scratch::new("socket-listen");
    let path = dir.join("stats");
    let (listener, place) = bind_unix(&path, None, PRIVATE).unwrap();
    assert_flags(listener.as_fd());
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "the name beside is gone"
    );
    assert_eq!(fs::symlink_metadata(&path).unwrap().nlink(), 1);
    assert!(place.remove().unwrap());
    assert!(!place.remove().unwrap());
}

#[test]
fn connects_without_waiting() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(any) else {
            continue; // No IPv6 here.
        };
        let stream = start_connect(listener.local_addr().unwrap()).unwrap();
        assert_flags(stream.as_fd());
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), stream.local_addr().unwrap());
        assert!(stream.take_error().unwrap().is_none());
    }
}

#[test]
fn a_living_one_is_refused_and_a_dead_one_replaced() {
    let dir = Scratch::new("socket-alive");
    let path = dir.join("stats");
    let (first, place) = bind_unix(&path, None, PRIVATE).unwrap();
    assert!(matches!(
        bind_unix(&path, None, PRIVATE),
        Err(CreateError::InUse)
    ));
    assert_eq!(
        first.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock,
        "not even asked"
    );
    drop(first);
    assert!(path.exists());
    let (_second, _) = bind_unix(&path, None, PRIVATE).unwrap();
    UnixStream::connect(&path).unwrap();
    // Unless the number was used again, the old place is not ours now.
    if look(&path).unwrap().unwrap().inode != place.inode {
        assert!(!place.remove().unwrap());
    }
}

#[test]
fn a_full_or_other_kind_of_living_socket_is_in_use() {
    let dir = Scratch::new("socket-full");
    let full = dir.join("full");
    let socket = open_socket(libc::AF_UNIX).unwrap();
    bind_to(&socket, &unix_address(&full).unwrap()).unwrap();
    assert!(
        matches!(bind_unix(&full, None, PRIVATE), Err(CreateError::InUse)),
        "not listening yet"
    );
    // SAFETY: no pointers; the descriptor is owned by `socket`.
    cerr(unsafe { libc::listen(socket.as_raw_fd(), 0) }).unwrap();
    let _client = UnixStream::connect(&full).unwrap();
    assert!(matches!(
        bind_unix(&full, None, PRIVATE),
        Err(CreateError::InUse)
    ));

    let datagram = dir.join("datagram");
    let socket = UnixDatagram::bind(&datagram).unwrap();
    assert!(matches!(
        bind_unix(&datagram, None, PRIVATE),
        Err(CreateError::InUse)
    ));
    drop(socket);
    bind_unix(&datagram, None, PRIVATE).unwrap();
}

#[test]
fn connecting_does_not_wait() {
    let dir = Scratch::new("socket-connect");
    let path = dir.join("stats");
    let kind = |path: &Path| connect_unix(path).map(drop).map_err(|error| error.kind());
    assert_eq!(kind(&path), Err(io::ErrorKind::NotFound));
    let socket = open_socket(libc::AF_UNIX).unwrap();
    bind_to(&socket, &unix_address(&path).unwrap()).unwrap();
    assert_eq!(kind(&path), Err(io::ErrorKind::ConnectionRefused));
    // SAFETY: no pointers; the descriptor is owned by `socket`.
    cerr(unsafe { libc::listen(socket.as_raw_fd(), 0) }).unwrap();
    let client = connect_unix(&path).unwrap();
    assert_flags(client.as_fd());
    assert_eq!(
        kind(&path),
        Err(io::ErrorKind::WouldBlock),
        "its queue is full"
    );

    // One byte more than a listener's: there is no name beside.
    let room = MAX_PATH_BYTES + 1 - dir.join("").as_os_str().len();
    let longest = dir.join(&"x".repeat(room));
    let _listener = std::os::unix::net::UnixListener::bind(&longest).unwrap();
    assert_eq!(kind(&longest), Ok(()));
    let longer = dir.join(&"x".repeat(room + 1));
    assert_eq!(kind(&longer), Err(io::ErrorKind::InvalidInput));
}

#[test]
fn a_dead_name_beside_is_no_obstacle() {
    let dir = Scratch::new("socket-beside");
    drop(UnixListener::bind(dir.join(".stats")).unwrap());
    bind_unix(&dir.join("stats"), None, PRIVATE).unwrap();
    fs::write(dir.join(".other"), "content").unwrap();
    assert!(matches!(
        bind_unix(&dir.join("other"), None, PRIVATE),
        Err(CreateError::WrongKind(FileKind::File))
    ));
    assert_eq!(fs::read(dir.join(".other")).unwrap(), b"content");
}

#[test]
fn what_else_lies_there_stays() {
    let dir = Scratch::new("socket-others");
    fs::write(dir.join("file"), "content").unwrap();
    fs::create_dir(dir.join("directory")).unwrap();
    std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
    for (name, kind) in [
        ("file", FileKind::File),
        ("directory", FileKind::Directory),
        ("link", FileKind::Symlink),
    ] {
        match bind_unix(&dir.join(name), None, PRIVATE) {
            Err(CreateError::WrongKind(found)) => assert_eq!(found, kind),
            result => panic!("{name}: {result:?}"),
        }
        assert_eq!(look(&dir.join(name)).unwrap().unwrap().kind, kind);
    }
    assert_eq!(fs::read(dir.join("file")).unwrap(), b"content");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn what_appears_meanwhile_stays() {
    let dir = Scratch::new("socket-race");
    let (path, beside) = (dir.join("stats"), dir.join(".stats"));
    let socket = open_socket(libc::AF_UNIX).unwrap();
    bind_to(&socket, &unix_address(&beside).unwrap()).unwrap();
    fs::write(&path, "content").unwrap();
    assert!(matches!(
        publish(
            &socket,
            &Dir::open(dir.path(), None).unwrap(),
            ".stats",
            "stats",
            PRIVATE
        ),
        Err(CreateError::InUse)
    ));
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn the_longest_path_is_known() {
    let dir = Scratch::new("socket-long");
    let room = MAX_PATH_BYTES - dir.join("").as_os_str().len();
    for len in [room - 1, room] {
        bind_unix(&dir.join(&"x".repeat(len)), None, PRIVATE).unwrap();
    }
    match bind_unix(&dir.join(&"x".repeat(room + 1)), None, PRIVATE) {
        Err(CreateError::TooLong {
            len_bytes,
            max_bytes,
        }) => {
            assert_eq!((len_bytes, max_bytes), (MAX_PATH_BYTES + 1, MAX_PATH_BYTES));
        }
        result => panic!("{result:?}"),
    }
    assert!(matches!(
        bind_unix(Path::new("/"), None, PRIVATE),
        Err(CreateError::Io { .. })
    ));
    assert!(matches!(
        bind_unix(Path::new(""), None, PRIVATE),
        Err(CreateError::Io { .. })
    ));
}

#[test]
fn owners_are_set_and_told_apart() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new("socket-owner");
    let path = dir.join("stats");
    let access = Access {
        mode: 0o660,
        uid: Some(12345),
        gid: Some(12346),
    };
    drop(bind_unix(&path, None, access).unwrap());
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (12345, 12346));
    assert!(matches!(
        bind_unix(&path, None, PRIVATE),
        Err(CreateError::Foreign {
            kind: FileKind::Socket,
            uid: 12345
        })
    ));
    drop(bind_unix(&path, None, access).unwrap());
}

#[test]
fn modes_are_exact() {
    alone(module_path!(), "modes_are_exact", || {
        let dir = Scratch::new("socket-mode");
        let path = dir.join("stats");
        for umask in [0, 0o022, 0o077] {
            set_umask(umask);
            for wanted in [0o600, 0o660, 0o666, 0] {
                let (_, place) = bind_unix(
                    &path,
                    None,
                    Access {
                        mode: wanted,
                        ..PRIVATE
                    },
                )
                .unwrap();
                let mode = fs::symlink_metadata(&path).unwrap().mode() & 0o7777;
                assert_eq!(mode, wanted, "umask {umask:o}");
                place.remove().unwrap();
            }
        }
    });
}

#[test]
fn only_a_socket_of_ours_under_one_name_is_given_away() {
    let dir = Scratch::new("socket-give");
    let in_it = Dir::open(dir.path(), None).unwrap();
    let access = Access {
        mode: 0o640,
        uid: None,
        gid: None,
    };
    let mode = |name| fs::metadata(dir.join(name)).unwrap().mode() & 0o7777;
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    set_access(&in_it, "socket", access).unwrap();
    assert_eq!(mode("socket"), 0o640);
    fs::write(dir.join("file"), "").unwrap();
    let before = mode("file");
    std::os::unix::fs::symlink("socket", dir.join("link")).unwrap();
    for name in ["file", "link"] {
        let error = set_access(&in_it, name, access).unwrap_err();
        assert!(
            matches!(error, CreateError::WrongKind(_)),
            "{name}: {error}"
        );
    }
    assert_eq!(mode("file"), before);
    fs::hard_link(dir.join("socket"), dir.join("other")).unwrap();
    let error = set_access(&in_it, "other", access).unwrap_err();
    assert!(matches!(error, CreateError::Foreign { .. }), "{error}");
    assert!(set_access(&in_it, "missing", access).is_err());
}

/// How many connections fit into a listener's queue.
#[cfg(target_os = "linux")]
fn backlog(listener: &TcpListener) -> u32 {
    // SAFETY: plain integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut len_bytes = mem::size_of_val(&info) as libc::socklen_t;
    let (fd, pointer) = (listener.as_raw_fd(), (&raw mut info).cast());
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: pointer and length are those of `info`, borrowed for the call.
    let result = unsafe { libc::getsockopt(fd, level, option, pointer, &mut len_bytes) };
    cerr(result).unwrap();
    // Of a listener: the limit of its queue.
    info.tcpi_sacked
}

#[cfg(target_os = "linux")]
#[test]
fn both_families_have_the_same_backlog() {
    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let most: u32 = most.trim().parse().unwrap();
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        match bind_tcp((ip, 0).into()) {
            Ok(listener) => assert_eq!(backlog(&listener), most.min(BACKLOG as u32), "{ip}"),
            Err(error) => println!("skipped: {ip}: {error}"),
        }
    }
}

#[test]
fn both_families_share_a_port() {
    let v6 = match bind_tcp((Ipv6Addr::UNSPECIFIED, 0).into()) {
        Ok(listener) => listener,
        Err(error) => return println!("skipped: no IPv6 here: {error}"),
    };
    assert_flags(v6.as_fd());
    let port = v6.local_addr().unwrap().port();
    let v4 = bind_tcp((Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
    assert_flags(v4.as_fd());
    let again = bind_tcp((Ipv6Addr::UNSPECIFIED, port).into());
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let client = std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    let (_, peer) = v6.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}
