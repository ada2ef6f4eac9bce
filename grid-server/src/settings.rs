//! Which configuration holds, and what it says.

use std::io;
use std::path::{Path, PathBuf};

use grid_config::{Diagnostic, Machine, ServerConfig, Severity, load};
use thiserror::Error;

/// What is served without a configuration.
const BUILT_IN: &str = include_str!("../etc/built-in.yml");

/// A configuration that was read, sound or not.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The file, or `built-in`.
    pub(crate) name: String,
    /// What it says, where it is sound.
    pub(crate) config: Option<ServerConfig>,
    /// What there is to say about it.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Why there is no configuration to use.
#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    #[error("the configuration {path} can't be read: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{name} has {errors} errors; nothing was started")]
    Wrong { name: String, errors: usize },
    #[error("pod.working-directory: {path} can't be entered: {error}")]
    WorkingDirectory { path: PathBuf, error: io::Error },
}

/// Reads the configuration that is named, or the user's, or the built-in one.
pub(crate) fn read(named: Option<&Path>) -> Result<Settings, SettingsError> {
    if let Some(path) = named {
        return read_file(path);
    }
    match config_home().map(|home| home.join("server.yml")) {
        Some(path) if path.exists() => read_file(&path),
        _ => Ok(interpret("built-in".to_owned(), BUILT_IN)),
    }
}

fn read_file(path: &Path) -> Result<Settings, SettingsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(interpret(path.display().to_string(), &text)),
        Err(error) => Err(SettingsError::Unreadable { path: path.to_owned(), error }),
    }
}

fn interpret(name: String, text: &str) -> Settings {
    let loaded = load(text, &Machine);
    Settings { name, config: loaded.config, diagnostics: loaded.diagnostics }
}

impl Settings {
    /// The configuration, with its warnings logged; its errors are printed and counted. The process goes where its relative
    /// paths begin.
    pub(crate) fn sound(self) -> Result<ServerConfig, SettingsError> {
        for diagnostic in &self.diagnostics {
            let text = diagnostic.render(&self.name);
            if diagnostic.severity == Severity::Error {
                tracing::error!("{text}");
            } else {
                tracing::warn!("{text}");
            }
        }
        let errors = self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
        let config = self.config.ok_or(SettingsError::Wrong { name: self.name, errors })?;
        if let Some(path) = &config.working_directory {
            std::env::set_current_dir(path)
                .map_err(|error| SettingsError::WorkingDirectory { path: path.clone(), error })?;
        }
        Ok(config)
    }
}

/// `$XDG_CONFIG_HOME/buildgrid`, where configurations and key pairs are by default.
pub(crate) fn config_home() -> Option<PathBuf> {
    user_directory("XDG_CONFIG_HOME", ".config")
}

/// `$XDG_STATE_HOME/buildgrid`, where embedded databases are by default.
pub(crate) fn state_home() -> Option<PathBuf> {
    user_directory("XDG_STATE_HOME", ".local/state")
}

fn user_directory(variable: &str, beneath_home: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set(variable).or_else(|| set("HOME").map(|home| home.join(beneath_home)));
    base.map(|base| base.join("buildgrid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_sound_and_without_warnings() {
        let shipped = [
            ("built-in", BUILT_IN),
            ("default.yml", include_str!("../etc/default.yml")),
            ("artifacts.yml", include_str!("../etc/artifacts.yml")),
        ];
        for (name, text) in shipped {
            let settings = interpret(name.to_owned(), text);
            assert!(
                settings.config.is_some() && settings.diagnostics.is_empty(),
                "{:#?}",
                settings.diagnostics
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Some(Path::new("/nowhere/server.yml"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/server.yml"), "{error}");
    }
}
