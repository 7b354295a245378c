# What a stand-in for a MySQL client answers to questions about the database of `nova` at a schema version: SQL in $sql.
# Every database has one table, which tells its version.
answers() { # VERSION NAMES
  local version=$1 name
  shift
  case "$sql" in
    *"SHOW GLOBAL VARIABLES"*)
      printf '%s\t%s\n' hostname "$NODE" datadir /var/lib/mysql/ port 3306 version 10.0-stand-in server_id 1 \
        character_set_server utf8 collation_server utf8_general_ci lower_case_table_names 0 sql_mode '' ;;
    *"SELECT 'database', s.schema_name"*)
      for name; do
        case "$sql" in *"'$name'"*) printf 'database\t%s\t1000\n' "$name" ;; esac
      done ;;
    *"FROM information_schema.tables t JOIN information_schema.columns c"*) echo "SELECT 'contents'" ;;
    *"SELECT 'contents'"*) printf 'migrate_version\t1\t%s\n' "$version" ;;
    *"FROM information_schema.tables"*"'migrate_version'"*) echo 1 ;;
    *"SELECT 'head', repository_id"*) printf 'head\tnova\t%s\n' "$version" ;;
    *) return 1 ;;
  esac
}
