# What is in a database, to compare its copy with: the rows and a checksum of each table.
# Set before: `ask`, a function that reads SQL and prints rows as `mysql -N -B` does. For MySQL 5.1 and later, bash 4.1.
#
# The checksum is the sum over the rows of half of each row's MD5: their order does not count, a row that is there twice
# does. A row is its values: text as bytes, after its length, the rest as the server prints it; NULL is N. Neither the
# time zone nor the charset of the client shows. Of a float what counts are the digits that are printed, which is what
# a dump has; MySQL 5.1 prints 1e+06 where later ones print 1000000. A long value is in its row as its own MD5, since
# CONCAT makes nothing longer than max_allowed_packet; a row that is too long all the same adds more than any row can.

SESSION="SET SESSION sql_mode='', time_zone='+00:00', group_concat_max_len=16777216; SET NAMES utf8;"

# Makes a statement of each table. `?` is the column, `#` a float's digits, without sign, point and exponent.
IFS= read -r -d '' STATEMENTS << 'SQL' || : # it reads to the end
SELECT CONCAT('SELECT ', QUOTE(t.table_name), ', COUNT(*), COALESCE(SUM(IFNULL(CAST(CONV(LEFT(MD5(CONCAT(',
  GROUP_CONCAT(REPLACE(REPLACE(CASE
      WHEN c.data_type IN ('tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal',
        'date', 'time', 'datetime', 'timestamp', 'year') THEN 'IFNULL(?, ''N''), '','''
      WHEN c.data_type IN ('char', 'varchar', 'binary', 'varbinary', 'enum', 'set')
        THEN 'IF(? IS NULL, ''N'', CONCAT(LENGTH(?), '':'', CAST(? AS BINARY)))'
      WHEN c.data_type = 'bit' THEN 'IFNULL(? + 0, ''N''), '','''
      WHEN c.data_type IN ('float', 'double') THEN CONCAT(
        'IF(? IS NULL, ''N'', CONCAT(IF(LEFT(CAST(? AS CHAR), 1) = ''-'', ''-'', ''''), TRIM(BOTH ''0'' FROM #), ''e'',',
        ' LOCATE(''.'', CONCAT(REPLACE(SUBSTRING_INDEX(CAST(? AS CHAR), ''e'', 1), ''-'', ''''), ''.''))',
        ' - LENGTH(#) + LENGTH(TRIM(LEADING ''0'' FROM #)) + IF(LOCATE(''e'', CAST(? AS CHAR)),',
        ' CAST(SUBSTRING_INDEX(CAST(? AS CHAR), ''e'', -1) AS SIGNED), 0))), '',''')
      ELSE 'IFNULL(MD5(?), ''N''), '','''
    END,
    '#', 'REPLACE(REPLACE(SUBSTRING_INDEX(CAST(? AS CHAR), ''e'', 1), ''-'', ''''), ''.'', '''')'),
    '?', CONCAT('`', REPLACE(c.column_name, '`', '``'), '`')) ORDER BY c.ordinal_position SEPARATOR ', '),
  ')), 16), 16, 10) AS UNSIGNED), 1000000000000000000000000000000)), 0) FROM `', REPLACE(t.table_schema, '`', '``'),
  '`.`', REPLACE(t.table_name, '`', '``'), '`')
FROM information_schema.tables t JOIN information_schema.columns c ON BINARY c.table_name = BINARY t.table_name
SQL

literal() { # TEXT as SQL's, under `SESSION`
  printf "'%s'" "$(sed 's/[\\'"'"']/\\&/g' <<< "$1")"
}

contents() { # DATABASE; prints `table<TAB>rows<TAB>checksum`, no line where there are no tables
  local database statements statement
  database=$(literal "$1")
  statements=$(ask <<< "$SESSION $STATEMENTS
    WHERE t.table_schema = $database AND c.table_schema = $database AND t.table_type = 'BASE TABLE'
    GROUP BY BINARY t.table_name ORDER BY BINARY t.table_name;") || return
  [ -n "$statements" ] || return 0
  { # the client has written \\ for each \, and \n for a line's end
    echo "$SESSION"
    while IFS= read -r statement; do printf '%b;\n' "$statement"; done <<< "$statements"
  } | ask
}
