//! PostgreSQL, by `psql`, `pg_dump` and `pg_restore`.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, WorkspacePath, schemars};

use crate::program::Program;
use crate::{Backup, Contents, Table, empty};

/// The database that every server has, for statements about databases.
const MAINTENANCE: &str = "postgres";
/// The certificates of public authorities on most machines.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How the comment on a database begins that was restored. The token of the restore and its run follow. A comment needs no
/// superuser, and belongs to a database whatever its name is.
const RESTORED: &str = "restored by Stagewright with token";

/// A PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Postgresql {
    /// The server's name or address.
    pub host: String,
    /// The server's port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// The secret with the user's password.
    pub secret: Option<String>,
    /// How the connection is encrypted, by libpq's names. Default: `verify-full`, and `disable` on this machine.
    pub tls: Option<Tls>,
    /// The file with the certificate of the server's authority. Default: the public authorities.
    pub ca: Option<WorkspacePath>,
}

fn default_port() -> u16 {
    5432
}

/// How connections are encrypted. See libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Not at all.
    Disable,
    /// Encrypted, and the server can be anyone.
    Require,
    /// With a certificate of the authority, for any name.
    VerifyCa,
    /// With a certificate of the authority for the server's name.
    VerifyFull,
}

impl Tls {
    fn name(self) -> &'static str {
        match self {
            Tls::Disable => "disable",
            Tls::Require => "require",
            Tls::VerifyCa => "verify-ca",
            Tls::VerifyFull => "verify-full",
        }
    }
}

/// Whether a restored database has the owners and the privileges of the backup, whose roles the server then has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// As in the backup.
    Restore,
    /// All of it belongs to the user who restores it.
    LeaveOut,
}

/// How a restored database takes the place of another one.
#[derive(Clone, Copy, Debug)]
pub struct Switch<'a> {
    /// The database that is replaced.
    pub database: &'a str,
    /// The database that was restored.
    pub restored: &'a str,
    /// The name that the replaced one gets.
    pub previous: &'a str,
    /// The token of the environment, if the stage acts on one.
    pub fence: u64,
    /// The run.
    pub run: &'a str,
}

impl Postgresql {
    /// Mistakes of a key.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let values = [("host", &self.host), ("user", &self.user)];
        values.into_iter().filter_map(|(name, value)| empty(&format!("{key}.{name}"), value)).collect()
    }

    /// A database in messages, as in `shop` on db.example.org:5432.
    pub fn place(&self, database: &str) -> String {
        format!("`{database}` on {}:{}", self.host, self.port)
    }

    fn requirements(&self) -> Vec<Requirement> {
        let net = Requirement::net(format!("tcp://{}:{}", self.host, self.port)).because("is the database server");
        let secret = self.secret.as_deref().map(|secret| Requirement::secret_env(secret).because("is the password"));
        let ca = self.ca.as_ref().map(|ca| Requirement::read(ca.as_str()).because("vouches for the server"));
        [net].into_iter().chain(secret).chain(ca).collect()
    }

    /// What a stage is granted to dump a database.
    pub fn requirements_to_dump(&self, database: &str) -> Vec<Requirement> {
        let mut needed = self.requirements();
        needed.push(self.psql(database).requirement("dumps the database"));
        needed
    }

    /// What a stage is granted to restore a file into databases with such names, one of which is new.
    pub fn requirements_to_restore(&self, into: &str, file: &str, owners: Owners) -> Vec<Requirement> {
        let mut needed = self.requirements();
        needed.push(self.psql(MAINTENANCE).requirement("creates a database"));
        needed.push(self.psql(into).requirement("compares what was restored"));
        needed.push(self.pg_restore(into, file, owners).requirement("restores the backup"));
        needed
    }

    /// What a stage is granted to run scripts in a database.
    pub fn requirements_of_scripts(&self, database: &str, reason: &str) -> Vec<Requirement> {
        let mut needed = self.requirements();
        needed.push(self.psql(database).requirement(reason));
        needed
    }

    /// Runs a script of `psql` in a database, and returns what it prints. It ends at the first error. `doing` begins the error.
    ///
    /// # Errors
    /// If the server can't be reached, or a statement fails.
    pub fn run_script(&self, database: &str, doing: &str, script: &str) -> Result<String> {
        let output = self.psql(database).run(&format!("{doing} {}", self.place(database)), script)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`Postgresql::run_script`], for a script that changes nothing.
    ///
    /// # Errors
    /// As [`Postgresql::run_script`].
    pub fn ask(&self, database: &str, doing: &str, script: &str) -> Result<String> {
        let output = self.psql(database).ask(&format!("{doing} {}", self.place(database)), script)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn connection(&self, database: &str) -> String {
        let tls = self.tls.unwrap_or(match is_this_machine(&self.host) {
            true => Tls::Disable,
            false => Tls::VerifyFull,
        });
        let mut parts = vec![
            ("host", self.host.clone()),
            ("port", self.port.to_string()),
            ("user", self.user.clone()),
            ("dbname", database.to_owned()),
            ("sslmode", tls.name().to_owned()),
            ("connect_timeout", "20".to_owned()),
        ];
        if matches!(tls, Tls::VerifyCa | Tls::VerifyFull) {
            let authorities = self.ca.as_ref().map_or(AUTHORITIES, |ca| ca.as_str());
            parts.push(("sslrootcert", authorities.to_owned()));
        }
        let parts = parts.into_iter().map(|(name, value)| format!("{name}={}", in_connection(&value)));
        parts.collect::<Vec<_>>().join(" ")
    }

    /// Reads a script from its input, and writes rows without decoration.
    fn psql(&self, database: &str) -> Program {
        let args = [
            "--no-psqlrc",
            "--no-password",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--file=-",
        ];
        let connection = format!("--dbname={}", self.connection(database));
        Program::new("psql", args.map(str::to_owned).into_iter().chain([connection]))
            .password("PGPASSWORD", self.secret.as_deref())
    }

    fn pg_restore(&self, into: &str, file: &str, owners: Owners) -> Program {
        let mut args = vec!["--no-password".to_owned(), "--exit-on-error".to_owned()];
        if owners == Owners::LeaveOut {
            args.extend(["--no-owner", "--no-privileges"].map(str::to_owned));
        }
        args.extend([format!("--dbname={}", self.connection(into)), file.to_owned()]);
        Program::new("pg_restore", args).password("PGPASSWORD", self.secret.as_deref())
    }

    /// Writes the database's data to a file, in the format of `pg_restore`, and says what is in it. Both see the same
    /// transaction.
    ///
    /// # Errors
    /// If the server can't be reached, or the dump fails.
    pub fn dump(&self, database: &str, file: &str) -> Result<(jiff::Timestamp, Contents)> {
        let script = [
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n",
            "SELECT pg_export_snapshot() AS snapshot \\gset\n",
            "\\setenv SNAPSHOT :snapshot\n",
            &format!("\\setenv CONNECTION {}\n", in_script(&self.connection(database))),
            &format!("\\setenv DUMP {}\n", in_script(file)),
            CONTENTS,
            // It inherits the password. A meta-command that fails doesn't end the script, so that the exit code is printed.
            "\\! pg_dump --no-password --format=custom --snapshot=\"$SNAPSHOT\" --file=\"$DUMP\" --dbname=\"$CONNECTION\"; \
             echo \"{\\\"dumped\\\": $?}\"\n",
            "COMMIT;\n",
        ];
        let doing = format!("can't back up {}", self.place(database));
        let program = self.psql(database);
        let output = program.run(&doing, &script.concat())?;
        let answers = answers(&output.stdout)?;
        match answers.dumped {
            Some(0) => {}
            code => {
                let code = code.map_or_else(|| "nothing".to_owned(), |code| code.to_string());
                let error = program.failed(&format!("{doing}: pg_dump returned {code}"), &output);
                return Err(error);
            }
        }
        let moment = answers.moment.ok_or_else(|| Error::internal("the server didn't say what time it is"))?;
        Ok((moment, answers.contents))
    }

    /// What a database has in it.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn contents(&self, database: &str) -> Result<Contents> {
        let script = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n{CONTENTS}COMMIT;\n");
        let output = self.psql(database).run(&format!("can't read {}", self.place(database)), &script)?;
        Ok(answers(&output.stdout)?.contents)
    }

    /// Creates a database of this name in place of one that an earlier attempt has left, and restores a file into it.
    ///
    /// # Errors
    /// If the server can't be reached, or the file can't be restored as a whole.
    pub fn restore(&self, backup: &Backup, into: &str, file: &str, owners: Owners) -> Result<()> {
        let setting = |name: &str| backup.contents.settings.get(name).map(|value| text(value));
        let settings: Vec<String> = [("ENCODING", "encoding"), ("LC_COLLATE", "collate"), ("LC_CTYPE", "ctype")]
            .into_iter()
            .filter_map(|(keyword, name)| Some(format!(" {keyword} {}", setting(name)?)))
            .collect();
        let owner = backup.contents.settings.get("owner").filter(|_| owners == Owners::Restore);
        let owner = owner.map(|owner| format!(" OWNER {}", identifier(owner))).unwrap_or_default();
        let script = format!(
            "DROP DATABASE IF EXISTS {into} WITH (FORCE);\nCREATE DATABASE {into} TEMPLATE template0{owner}{};\n",
            settings.concat(),
            into = identifier(into),
        );
        self.psql(MAINTENANCE).run(&format!("can't create a database on {}:{}", self.host, self.port), &script)?;
        let doing = format!("can't restore the backup `{}`", backup.name);
        self.pg_restore(into, file, owners).run(&doing, "")?;
        Ok(())
    }

    /// Removes a database, if it exists.
    ///
    /// # Errors
    /// If the server can't be reached.
    pub fn drop(&self, database: &str) -> Result<()> {
        let script = format!("DROP DATABASE IF EXISTS {} WITH (FORCE);\n", identifier(database));
        self.psql(MAINTENANCE).run(&format!("can't remove the database `{database}`"), &script)?;
        Ok(())
    }

    /// Asks a database: each query has to return true. Returns those that don't, with what they return.
    ///
    /// # Errors
    /// If a query is invalid.
    pub fn check(&self, database: &str, queries: &[String]) -> Result<Vec<String>> {
        let mut failed = Vec::new();
        for query in queries {
            let query = query.trim().trim_end_matches(';');
            let script = format!("BEGIN READ ONLY;\n{query};\nCOMMIT;\n");
            let output = self.psql(database).run(&format!("can't evaluate `{query}`"), &script)?;
            let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if answer != "t" {
                let answer = if answer.is_empty() { "nothing" } else { &answer };
                failed.push(format!("`{query}` returns {answer}"));
            }
        }
        Ok(failed)
    }

    /// Puts a restored database in the place of another one, which keeps its data under another name. Sessions of the replaced
    /// one are ended. The switch is one transaction, which a newer restore refuses: the token is kept with the database.
    ///
    /// # Errors
    /// If a newer run has restored it, or the server can't be reached.
    pub fn switch(&self, switch: &Switch<'_>) -> Result<()> {
        let script = format!(
            "{LOCK}{refuse}\
             ALTER DATABASE {own} ALLOW_CONNECTIONS false;\nCOMMIT;\n\
             SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {name};\n\
             {LOCK}{refuse}\
             ALTER DATABASE {own} RENAME TO {previous};\n\
             ALTER DATABASE {restored} RENAME TO {own};\n\
             ALTER DATABASE {previous} ALLOW_CONNECTIONS true;\n\
             COMMENT ON DATABASE {own} IS {comment};\nCOMMIT;\n",
            refuse = refuse_newer(switch),
            own = identifier(switch.database),
            restored = identifier(switch.restored),
            previous = identifier(switch.previous),
            name = text(switch.database),
            comment = text(&format!("{RESTORED} {}, run {}", switch.fence, switch.run)),
        );
        let doing = format!("can't put the restored database in the place of {}", self.place(switch.database));
        let switched = self.psql(MAINTENANCE).run(&doing, &script);
        if switched.is_err() {
            // What refuses connections would serve no one.
            self.reopen(switch.database)?;
        }
        switched.map(|_| ())
    }

    /// Lets sessions in again, after a switch that was interrupted.
    ///
    /// # Errors
    /// If the server can't be reached.
    pub fn reopen(&self, database: &str) -> Result<()> {
        let script = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;\n", identifier(database));
        self.psql(MAINTENANCE).run(&format!("can't let sessions into {}", self.place(database)), &script)?;
        Ok(())
    }

    /// The run whose restore a database is, if it is one.
    ///
    /// # Errors
    /// If the server can't be reached.
    pub fn restored_by(&self, database: &str) -> Result<Option<String>> {
        let script = format!("SELECT {};\n", of_comment(database, " \\d+, run (.*)"));
        let output = self.psql(MAINTENANCE).ask(&format!("can't ask for {}", self.place(database)), &script)?;
        let run = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((!run.is_empty()).then_some(run))
    }
}

/// Ends the transaction if a newer run has restored the database.
fn refuse_newer(switch: &Switch<'_>) -> String {
    format!(
        "DO $do$ BEGIN IF {}::bigint > {} THEN RAISE EXCEPTION 'a newer run has restored this database'; END IF; END $do$;\n",
        of_comment(switch.database, " (\\d+),"),
        switch.fence
    )
}

/// What a regular expression finds behind the beginning of the comment on a database.
fn of_comment(database: &str, expression: &str) -> String {
    format!(
        "(SELECT substring(shobj_description(oid, 'pg_database') FROM '{RESTORED}{expression}') \
         FROM pg_database WHERE datname = {})",
        text(database),
    )
}

/// One restore at a time decides about a server's databases.
const LOCK: &str = "BEGIN;\nSELECT pg_advisory_xact_lock(hashtext('stagewright.restore'));\n";

/// Prints a line of JSON about the server, and one for each table. Text forms are the same on each server and in each session.
/// Tables of extensions are left out, which `pg_dump` leaves to the extension.
const CONTENTS: &str = "\
SET LOCAL search_path = pg_catalog;
SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL IntervalStyle = 'iso_8601';
SET LOCAL TimeZone = 'UTC';
SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex';
SET LOCAL lc_monetary = 'C';
SET LOCAL row_security = off;
SELECT json_build_object('moment', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), \
'version', current_setting('server_version'), 'encoding', pg_encoding_to_char(encoding), 'collate', datcollate, \
'ctype', datctype, 'owner', pg_get_userbyid(datdba)) FROM pg_database WHERE datname = current_database();
SELECT format('SELECT json_build_object(''table'', %L, ''rows'', count(*), ''digest'', \
coalesce(sum(hashtextextended(t::text, 0)), 0)::text) FROM ONLY %s AS t', name, name) FROM \
(SELECT format('%I.%I', nspname, relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
WHERE relkind = 'r' AND relpersistence <> 't' AND nspname <> 'information_schema' AND nspname !~ '^pg_' \
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')) \
AS tables ORDER BY name \\gexec
";

/// What a script has printed.
#[derive(Debug, Default)]
struct Answers {
    moment: Option<jiff::Timestamp>,
    contents: Contents,
    /// The exit code of `pg_dump`.
    dumped: Option<i32>,
}

/// A line of it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Table { table: String, rows: u64, digest: String },
    Server { moment: jiff::Timestamp, version: String, encoding: String, collate: String, ctype: String, owner: String },
    Dumped { dumped: i32 },
}

fn answers(output: &[u8]) -> Result<Answers> {
    let text = String::from_utf8_lossy(output);
    let mut all = Answers::default();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let answer = serde_json::from_str(line)
            .map_err(|error| Error::internal(format!("can't read the answer of psql, `{line}`: {error}")))?;
        match answer {
            Answer::Table { table, rows, digest } => {
                all.contents.tables.insert(table, Table { rows, digest });
            }
            Answer::Server { moment, version, encoding, collate, ctype, owner } => {
                all.moment = Some(moment);
                all.contents.version = version;
                let settings = [("encoding", encoding), ("collate", collate), ("ctype", ctype), ("owner", owner)];
                all.contents.settings =
                    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>();
            }
            Answer::Dumped { dumped } => all.dumped = Some(dumped),
        }
    }
    Ok(all)
}

/// Whether a host is this machine, which no connection leaves.
fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

/// A value in a connection string of libpq.
fn in_connection(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// An argument of a meta-command of psql.
fn in_script(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('\'', "''");
    // A line break would end the command, and begin another one.
    format!("'{}'", value.replace('\n', "\\n").replace('\r', "\\r"))
}

/// A name in SQL.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL, in quotes.
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_ends_the_line_of_a_command_of_psql() {
        assert_eq!(in_script("it's \\ a\n\\! sh\r"), r"'it''s \\ a\n\\! sh\r'");
        assert_eq!(in_connection(r"it's \"), r"'it\'s \\'");
    }
}
