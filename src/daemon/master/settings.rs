//! The settings under Dovecot's master: of our own file, then those of Dovecot, asked of
//! its configuration socket, then `-o`; and what the master decides itself.

use crate::config::{Configuration, Fatal, Location, LogPath, Mistake, Reply, StateDir};
use crate::daemon::master::Master;
use crate::daemon::options::Options;
use crate::sys::reason;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Dovecot's state_dir as distributions build it; its configuration socket replies with
/// another one only.
const DOVECOTS_STATE_DIR: &str = "/var/lib/dovecot";

/// How long the configuration socket may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time between two attempts to ask it.
const RETRY: Duration = Duration::from_millis(50);

/// The most bytes of a reply: many times what a large configuration has.
const REPLY_MAX_BYTES: u64 = 16 << 20;

/// Asks for the settings of a service.
fn ask(socket: &Path, service: &str) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("VERSION\tconfig\t2\t0\nREQ\tservice={service}\n").as_bytes())?;
    let mut bytes = Vec::new();
    let mut stream = stream.take(REPLY_MAX_BYTES);
    let mut piece = [0; 16384];
    // The settings, between two empty lines.
    while !(bytes.len() > 1 && bytes.ends_with(b"\n\n")) {
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
    Ok(Reply::parse(&String::from_utf8_lossy(&bytes)))
}

/// As [`ask`], again while Dovecot's process for that is replaced, as by the next reload.
#[cold]
#[inline(never)]
fn ask_patiently(socket: &Path, service: &str) -> io::Result<Reply> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask(socket, service) {
            Err(error)
                if error.kind() != io::ErrorKind::PermissionDenied && Instant::now() < until =>
            {
                std::thread::sleep(RETRY);
            }
            asked => return asked,
        }
    }
}

impl Master {
    /// Reads the settings. Those of Dovecot are kept in `options`.
    ///
    /// # Errors
    /// All mistakes; a configuration socket that does not reply.
    #[cold]
    #[inline(never)]
    pub(crate) fn load(&self, options: &mut Options) -> Result<Configuration, Fatal> {
        let environment = &self.environment;
        let mut reply = Reply::default();
        let mut notice = None;
        let socket = environment.config_socket.as_deref();
        if let Some(socket) = socket {
            match ask_patiently(socket, &environment.service) {
                Ok(found) => reply = found,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    notice = Some(Mistake {
                        place: Location::whole("dovecot.conf"),
                        message: format!(
                            "{}: {}: its settings are not known: with drop_priv_before_exec = \
                             yes, set state_dir and others by -o in executable",
                            socket.display(),
                            reason(&error)
                        ),
                    });
                }
                Err(error) => return Err(Fatal::Io(socket.display().to_string(), error)),
            }
        }
        options.foreground = true;
        options.dovecots = reply.settings;
        let mut configuration = options.load()?;
        configuration.notices.extend(notice);
        let settings = &mut configuration.settings;
        let run_dir = reply
            .base_dir
            .or_else(|| Some(socket?.parent()?.to_owned()));
        settings.base_dir = run_dir.unwrap_or_else(|| PathBuf::from("/run/dovecot"));
        settings.log_path = LogPath::Dovecot;
        settings.pidfile = None;
        if settings.state_dir == StateDir::Auto {
            let dir = reply.state_dir.unwrap_or_else(|| DOVECOTS_STATE_DIR.into());
            settings.state_dir = StateDir::Named(dir.join("dovestat"));
        }
        let (service, restrict) = (&mut settings.service, &environment.restrict);
        service.user = restrict.uid.unwrap_or(0).to_string();
        service.group = Some(restrict.gid.unwrap_or(0).to_string());
        service.chroot.clone_from(&restrict.chroot);
        service.client_limit = environment.client_limit;
        Ok(configuration)
    }
}
