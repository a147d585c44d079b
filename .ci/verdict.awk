# Reads `go test -v ./...`: prints one line for each package, all output of those
# that failed, and every skipped test with its reason. `skips` names the file that
# lists the skips that CI allows; with CI=true any other skip is exit 1.
# (Whether tests failed is go test's own exit code: use pipefail.)
#
# After everything else the reasons come once more, in brief: who sees but the end of
# a long log sees why. For each test that failed that is what it logged itself, without
# what a program under test had to tell of its daily work, then panics, data races, and
# what the compiler said.
#
# A package's lines arrive together and end with its verdict, so what is held back is
# the output of one package. Only the compiler's arrive at any time.

BEGIN {
	while ((getline line < skips) > 0)
		if (line !~ /^[ \t]*(#|$)/) {
			split(line, field)
			allowed = allowed (allowed == "" ? "" : "|") "^(" field[1] ")$"
		}
	first = 25 # lines from the beginning of what a test logged, of a panic, of a race,
	last = 15  # and from its end
	room = 300 # lines that all of them may take
}

# The compiler and vet: "# package", then lines until a test or a verdict comes.
/^# [^ ]+( \[[^ ]+\])?$/ { compiling = 1 }
/^(=== |--- |PASS$|FAIL|ok|\?|panic: )/ { compiling = 0 }
compiling { print; add($0); next }

{ held[n++] = $0 }

# A log line belongs to the test that was named last; a skipped one's last is its reason.
/^=== (RUN|CONT|NAME|PAUSE) / { name = $3; trouble = "" }
/^[ \t]+[^ ]+\.go:[0-9]+: / { log_of[name] = substr($0, match($0, /[^ \t]/)) }
/^[ \t]*--- SKIP: / { skipped[$3] = log_of[$3] }
/^[ \t]*--- (PASS|SKIP|FAIL): / { trouble = "" }
/^[ \t]*--- FAIL: / { failed[fails++] = $3; for (up = $3; sub(/\/[^\/]*$/, "", up); ) parent[up] = 1 }
trouble == "" && /^    / && !/^ *--- / && !/ level=(DEBUG|INFO) / { own[name, lines[name]++] = $0 }

# A race lasts until its ruler, what ends a process until its verdict.
/^WARNING: DATA RACE/ { trouble = "race" }
/^(panic: |fatal error: |SIG[A-Z]+: )/ && trouble != "crash" { trouble = "crash"; stanza = ""; shown = 0 }
trouble == "race" && /^===/ { trouble = "" }
trouble == "crash" && /^(FAIL|exit status|signal: )/ { crashed(); trouble = "" }
trouble == "race" { fault[faults++] = $0 }
trouble == "crash" && /^\t\t[^ ]+ \([0-9.hms]+\)$/ { failed[fails++] = $1 } # it ran when time was up
trouble == "crash" { stanza = stanza $0 "\n"; if ($0 == "") crashed() }
/^signal: / { failed[fails++] = name; fault[faults++] = $0 }

/^(ok|\?)[ \t]/ || /^\t.*coverage:/ { verdict(n - 1) }
/^FAIL[ \t]/ { broken++; brief($2); verdict(0) }

# crashed keeps what ended the process, and the stacks of goroutines that are in a
# test, each once: where time was up there are hundreds.
function crashed(    line, count, i, like) {
	like = stanza
	gsub(/0x[0-9a-f]+|goroutine [0-9]+( \[[^\]]*\])?/, "", like)
	if (shown++ == 0 || stanza ~ /_test\.go:/ && !(like in seen)) {
		seen[like] = 1
		count = split(stanza, line, "\n")
		for (i = 1; i < count; i++)
			if (i <= first) fault[faults++] = line[i]
	}
	stanza = ""
}

# brief keeps why package `what` failed.
function brief(what,    i, j, test, from) {
	if (fails + faults > 0) add("--- " what)
	for (i = 0; i < fails; i++) {
		test = failed[i]
		if (test in parent && lines[test] == 0) continue
		add("FAIL " test)
		for (j = 0; j < lines[test]; j++)
			if (j < first || j >= lines[test] - last) add(own[test, j])
			else if (j == first) add("    … " lines[test] - first - last " lines")
	}
	for (i = 0; i < faults; i++)
		if (i < 2 * first || i >= faults - first) add(fault[i])
		else if (i == 2 * first) add("… " faults - 3 * first " lines")
	if (fails + faults > 0 || $0 ~ /\[(build|setup) failed\]/) return
	add("--- " what ", whose last lines are") # it ended without a word from a test
	for (i = n > first ? n - first : 0; i < n; i++) add(held[i])
}

function add(line) { reasons[reason++] = line }

# verdict ends a package: prints what is held from line `from` on, and its skips.
function verdict(from,    test) {
	for (; from < n; from++) print held[from]
	for (test in skipped)
		if (allowed != "" && test ~ allowed)
			print "  skipped as agreed: " test "  " skipped[test]
		else {
			print "  SKIPPED: " test "  " skipped[test]
			if (ENVIRON["CI"] == "true") add("SKIPPED: " test "  " skipped[test])
			refused++
		}
	delete skipped; delete log_of; delete failed; delete parent; delete own; delete lines; delete fault; delete seen
	n = fails = faults = 0
	trouble = name = ""
	fflush()
}

END {
	for (i = 0; i < n; i++) print held[i] # go test was cut short, or says why it did not start
	if (reason > 0 && broken + refused > 0) {
		print "\n=== why it failed"
		for (i = reason > room ? reason - room : 0; i < reason; i++) print reasons[i]
	}
	if (refused && ENVIRON["CI"] == "true") {
		print refused " test(s) skipped: CI runs every test but those in " skips
		exit 1
	}
}
