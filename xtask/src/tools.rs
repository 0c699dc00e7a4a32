//! What the tests need from outside, in one table, and how it is installed.

use crate::root;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One thing that tests need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    name: &'static str,
    needed_for: &'static str,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    /// Debian packages, and the command that succeeds when they are here.
    Debian { packages: &'static [&'static str], probe: &'static [&'static str] },
    /// A virtual environment in `.tools/venv` with the packages of `xtask/tools/requirements.txt`.
    Python,
    /// A folder `.tools/node` with the packages of `xtask/tools/package-lock.json`.
    Npm,
}

/// In order of installation: what is below may need what is above. Tests of a driver add its server here.
const TOOLS: &[Tool] = &[
    Tool {
        name: "Python 3 with venv",
        needed_for: "the Python charger and workers, the official schemas and the judge of the generated types",
        source: Source::Debian {
            packages: &["python3", "python3-venv"],
            probe: &["python3", "-c", "import venv, ensurepip"],
        },
    },
    Tool {
        name: "Node.js",
        needed_for: "the Node charger",
        source: Source::Debian {
            packages: &["nodejs"],
            probe: &["node", "-e", "process.exit(Number(process.versions.node.split('.')[0]) >= 18 ? 0 : 1)"],
        },
    },
    Tool {
        name: "npm",
        needed_for: "the Node charger",
        source: Source::Debian { packages: &["npm"], probe: &["npm", "--version"] },
    },
    Tool {
        name: "NATS server",
        needed_for: "the bus and the directory over NATS",
        source: Source::Debian { packages: &["nats-server"], probe: &["nats-server", "--version"] },
    },
    Tool {
        name: "RabbitMQ",
        needed_for: "the bus over AMQP",
        source: Source::Debian {
            packages: &["rabbitmq-server"],
            probe: &["test", "-x", "/usr/lib/rabbitmq/bin/rabbitmq-server"],
        },
    },
    Tool {
        name: "Mosquitto",
        needed_for: "the bus over MQTT",
        source: Source::Debian { packages: &["mosquitto"], probe: &["test", "-x", "/usr/sbin/mosquitto"] },
    },
    Tool {
        name: "libfaketime",
        needed_for: "workers whose clock is wrong",
        source: Source::Debian {
            packages: &["libfaketime"],
            probe: &["sh", "-c", "test -e /usr/lib/*/faketime/libfaketime.so.1"],
        },
    },
    Tool {
        name: "PostgreSQL",
        needed_for: "the directory and the books in PostgreSQL",
        source: Source::Debian {
            packages: &["postgresql"],
            probe: &["sh", "-c", "test -x /usr/lib/postgresql/*/bin/postgres"],
        },
    },
    Tool {
        name: "PyPI packages (ocpp, websockets, jsonschema, brokers' clients)",
        needed_for: "the Python charger and workers, the official schemas and the judge of the generated types",
        source: Source::Python,
    },
    Tool {
        name: "npm packages (ocpp-rpc, nats, @asyncapi/specs)",
        needed_for: "the Node charger and worker, and the judge of docs/asyncapi.yaml",
        source: Source::Npm,
    },
];

impl fmt::Display for Tool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, for {}", self.name, self.needed_for)
    }
}

/// Finds out what is missing; with `install` installs it. Gives back what is missing still.
pub(crate) fn prepare(install: bool) -> Result<Vec<Tool>> {
    let missing = |tool: &&Tool| !tool.is_here();
    if !install {
        return Ok(TOOLS.iter().filter(missing).copied().collect());
    }
    fs::create_dir_all(root().join(".tools")).context("cannot make the folder .tools")?;
    let packages: Vec<&str> = TOOLS
        .iter()
        .filter(missing)
        .filter_map(|tool| match tool.source {
            Source::Debian { packages, .. } => Some(packages),
            Source::Python | Source::Npm => None,
        })
        .flatten()
        .copied()
        .collect();
    if !packages.is_empty() {
        apt_install(&packages)?;
    }
    for tool in TOOLS.iter().filter(missing) {
        println!("installing {}", tool.name);
        match tool.source {
            Source::Debian { packages, .. } => bail!("{packages:?} are installed and still do not work"),
            Source::Python => install_python()?,
            Source::Npm => install_npm()?,
        }
    }
    Ok(TOOLS.iter().filter(missing).copied().collect())
}

impl Tool {
    fn is_here(&self) -> bool {
        match self.source {
            Source::Debian { probe, .. } => {
                let [program, arguments @ ..] = probe else { return false };
                quiet(Command::new(program).args(arguments))
            }
            Source::Python => python_packages_are_here(),
            Source::Npm => {
                same(&tools_list("package-lock.json"), &node_folder().join("package-lock.json"))
                    && node_folder().join("node_modules/ocpp-rpc/package.json").is_file()
            }
        }
    }
}

/// Whether all PyPI packages are here, in the versions of our list.
pub(crate) fn python_packages_are_here() -> bool {
    same(&requirements(), &venv().join("requirements.txt"))
        && quiet(Command::new(python()).args(["-c", "import ocpp, websockets, jsonschema"]))
}

/// The interpreter that has the PyPI packages.
pub(crate) fn python() -> PathBuf {
    venv().join("bin/python")
}

fn apt_install(packages: &[&str]) -> Result<()> {
    if !quiet(Command::new("sh").args(["-c", "test $(id -u) = 0 && command -v apt-get"])) {
        bail!(
            "as root, please: apt-get update && apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    println!("installing Debian packages: {}", packages.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "--yes", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The copy of the list is written last: it says that the folder is whole.
fn install_python() -> Result<()> {
    remove(&venv())?;
    run(Command::new("python3").arg("-m").arg("venv").arg(venv()))?;
    run(Command::new(python())
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
            "-r",
        ])
        .arg(requirements()))?;
    run(Command::new(python()).args(["-m", "pip", "--disable-pip-version-check", "check"]))?;
    fs::copy(requirements(), venv().join("requirements.txt")).context("cannot note what was installed")?;
    Ok(())
}

fn install_npm() -> Result<()> {
    remove(&node_folder())?;
    fs::create_dir_all(node_folder()).context("cannot make the folder .tools/node")?;
    for list in ["package.json", "package-lock.json"] {
        fs::copy(tools_list(list), node_folder().join(list))
            .context("cannot copy the list of npm packages")?;
    }
    let installed = run(Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(node_folder()));
    if installed.is_err() {
        remove(&node_folder())?;
    }
    installed
}

fn venv() -> PathBuf {
    root().join(".tools/venv")
}

/// Where npm's packages are.
pub(crate) fn node_modules() -> PathBuf {
    node_folder().join("node_modules")
}

fn node_folder() -> PathBuf {
    root().join(".tools/node")
}

fn requirements() -> PathBuf {
    tools_list("requirements.txt")
}

fn tools_list(name: &str) -> PathBuf {
    root().join("xtask/tools").join(name)
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
