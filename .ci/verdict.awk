# Reads `go test -v ./...`: prints one line for each package, all output of those
# that failed, and every skipped test with its reason. `skips` names the file that
# lists the skips that CI allows; with CI=true any other skip is exit 1.
# (Whether tests failed is go test's own exit code: use pipefail.)
#
# A package's lines arrive together and end with its verdict, so what is held
# back is the output of one package.

BEGIN {
	while ((getline line < skips) > 0)
		if (line !~ /^[ \t]*(#|$)/) {
			split(line, field)
			allowed = allowed (allowed == "" ? "" : "|") "^(" field[1] ")$"
		}
}

{ held[n++] = $0 }

# A log line belongs to the test that was named last; a skipped one's last is its reason.
/^=== (RUN|CONT|NAME) / { name = $3 }
/^[ \t]+[^ ]+\.go:[0-9]+: / { log_of[name] = substr($0, match($0, /[^ \t]/)) }
/^[ \t]*--- SKIP: / { skipped[$3] = log_of[$3] }

/^(ok|\?)[ \t]/ || /^\t.*coverage:/ { verdict(n - 1) }
/^FAIL[ \t]/ { verdict(0) }

# verdict ends a package: prints what is held from line `from` on, and its skips.
function verdict(from,    test) {
	for (; from < n; from++) print held[from]
	for (test in skipped)
		if (allowed != "" && test ~ allowed)
			print "  skipped as agreed: " test "  " skipped[test]
		else {
			print "  SKIPPED: " test "  " skipped[test]
			refused++
		}
	delete skipped
	delete log_of
	n = 0
	fflush()
}

END {
	for (i = 0; i < n; i++) print held[i] # go test was cut short, or says why it did not start
	if (refused && ENVIRON["CI"] == "true") {
		print refused " test(s) skipped: CI runs every test but those in " skips
		exit 1
	}
}
