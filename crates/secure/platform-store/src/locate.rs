//! Which folder is the platform: the option, the environment, the system, the user; in this order.
//!
//! The option, the variable and the system folder come first because a manager such as libvirt
//! gives every domain a HOME of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::PlatformError;
use crate::files::CONFIG;

/// What [`locate`] looks at; a value so that tests need not change the process's environment.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `$CLOISTER_PLATFORM`.
    pub cloister_platform: Option<OsString>,
    /// `$XDG_DATA_HOME`.
    pub xdg_data_home: Option<OsString>,
    /// `$HOME`.
    pub home: Option<OsString>,
    /// The system folder.
    pub system: PathBuf,
}

impl Environment {
    /// The environment of this process.
    pub fn of_this_process() -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            cloister_platform: var("CLOISTER_PLATFORM"),
            xdg_data_home: var("XDG_DATA_HOME"),
            home: var("HOME"),
            system: PathBuf::from(SYSTEM_FOLDER),
        }
    }

    /// The user's platform folder, whether it exists or not.
    pub fn user_folder(&self) -> Option<PathBuf> {
        // A relative XDG_DATA_HOME must be ignored (XDG Base Directory Specification, "Basics").
        let data = self
            .xdg_data_home
            .as_ref()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| self.home.as_ref().map(|home| Path::new(home).join(".local/share")))?;
        Some(data.join("cloister/platform"))
    }
}

/// Who named the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `-platform DIR`.
    Option,
    /// `$CLOISTER_PLATFORM`.
    Variable,
    /// The system folder.
    System,
    /// The user's data folder.
    User,
}

/// A platform folder that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The folder.
    pub folder: PathBuf,
    /// Who named it.
    pub source: Source,
}

/// Finds the platform folder. A folder that the user named must be a platform; the system's and
/// the user's are taken if they are there. `None` means that no platform exists, and the caller
/// may use [`crate::Platform::ephemeral_s390x`].
pub fn locate(option: Option<&Path>, environment: &Environment) -> Result<Option<Located>, PlatformError> {
    if let Some(folder) = option {
        return named(folder, Source::Option, "-platform").map(Some);
    }
    if let Some(folder) = &environment.cloister_platform {
        return named(Path::new(folder), Source::Variable, "$CLOISTER_PLATFORM").map(Some);
    }
    let system = Some((environment.system.clone(), Source::System));
    let user = environment.user_folder().map(|folder| (folder, Source::User));
    for (folder, source) in system.into_iter().chain(user) {
        if folder.join(CONFIG).exists() {
            return Ok(Some(Located { folder, source }));
        }
    }
    Ok(None)
}

fn named(folder: &Path, source: Source, named_by: &'static str) -> Result<Located, PlatformError> {
    let fail = |reason| PlatformError::NotFound { folder: folder.into(), named_by, reason };
    if !folder.exists() {
        return Err(fail("the folder does not exist"));
    }
    if !folder.is_dir() {
        return Err(fail("it is not a folder"));
    }
    if !folder.join(CONFIG).exists() {
        return Err(fail("it has no platform.toml"));
    }
    Ok(Located { folder: folder.into(), source })
}

const SYSTEM_FOLDER: &str = "/var/lib/cloister/platform";

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(base: &Path, name: &str) -> PathBuf {
        let folder = base.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(CONFIG), "").unwrap();
        folder
    }

    #[test]
    fn the_order_is_option_variable_system_user() {
        let base = tempfile::tempdir().unwrap();
        let option = platform(base.path(), "option");
        let variable = platform(base.path(), "variable");
        let system = platform(base.path(), "system");
        let user = platform(base.path(), "data/cloister/platform");
        let mut environment = Environment {
            cloister_platform: Some(variable.clone().into()),
            xdg_data_home: Some(base.path().join("data").into()),
            home: Some("/nowhere".into()),
            system: system.clone(),
        };
        let find = |option, environment: &Environment| locate(option, environment).unwrap();
        let located = |folder: &PathBuf, source| Some(Located { folder: folder.clone(), source });
        assert_eq!(find(Some(&option), &environment), located(&option, Source::Option));
        assert_eq!(find(None, &environment), located(&variable, Source::Variable));
        environment.cloister_platform = None;
        assert_eq!(find(None, &environment), located(&system, Source::System));
        environment.system = base.path().join("absent");
        assert_eq!(find(None, &environment), located(&user, Source::User));
        environment.xdg_data_home = None;
        assert_eq!(find(None, &environment), None);
    }

    #[test]
    fn a_named_folder_must_be_a_platform() {
        let base = tempfile::tempdir().unwrap();
        let mut environment = Environment {
            cloister_platform: None,
            xdg_data_home: None,
            home: None,
            system: platform(base.path(), "system"),
        };
        let missing = base.path().join("missing");
        let message = locate(Some(&missing), &environment).unwrap_err().to_string();
        assert!(message.contains("-platform") && message.contains("does not exist"), "{message}");
        environment.cloister_platform = Some(base.path().into());
        let message = locate(None, &environment).unwrap_err().to_string();
        assert!(message.contains("$CLOISTER_PLATFORM") && message.contains("platform.toml"), "{message}");
    }
}
