package UserSync::OpenAPI;

# Runs the programs that know OpenAPI. t/openapi/install fetches what they need
# from PyPI and npm; where that has failed, the tests fail and say so.
#
#   use UserSync::OpenAPI;
#
#   needs_tools();
#   my $complaints = judgement([{ path => ..., method => ... }, ...]);

use strict;
use warnings;

use Exporter qw(import);
use Test::More ();

use UserSync::Util qw(read_json run_command slurp spew top_dir write_json);

our @EXPORT = qw(
    judgement needs_tools node_tools python schema_file tool_failure
);

my $files = 0;

# Where run-suite has put what t/openapi/install fetched
sub tools { return $ENV{USERSYNC_OPENAPI} || top_dir() . '/build/openapi' }

sub schema_file { return top_dir() . '/docs/openapi.yaml' }

# The directory with the commands of npm's packages, or nothing
sub node_tools {
    my $bin = tools() . '/node/node_modules/.bin';
    return -d $bin ? $bin : ();
}

# Why t/openapi/install could not fetch a part: python or node
sub tool_failure { return slurp(tools() . "/$_[0].failed") }

# Fails the file, and says why, unless the packages of PyPI are there.
sub needs_tools {
    my ($status, $said) = python('-c', 'import jsonschema, openapi_spec_valid'
        . 'ator, schemathesis, yaml');
    return 1 if $status == 0;
    my $why = tool_failure('python') || $said;
    die "what tests docs/openapi.yaml is not here: run t/openapi/install, "
        . "which takes it from PyPI.\n$why\n";
}

# (exit status, output) of Debian's Python with those packages
sub python {
    my (@arg) = @_;
    my %env = ref $arg[0] ? %{ shift @arg } : ();
    return run_command({ PYTHONPATH => tools() . '/python',
        PYTHONDONTWRITEBYTECODE => 1, PYTHONNOUSERSITE => 1, %env },
        '/usr/bin/python3', @arg);
}

# What judge.py has against answers, as {check => [complaint, ...]}; then
# [path, status, code] that need not be seen.
sub judgement {
    my ($answers, @unseen) = @_;
    my $file = "$ENV{USERSYNC_RUN}/openapi.$$." . ++$files;
    write_json("$file.answers", { answers => $answers, unseen => \@unseen });
    my ($status, $said) = python(top_dir() . '/t/openapi/judge.py', top_dir(),
        "$file.answers", "$file.judged");
    my $judged = $status == 0 && read_json("$file.judged");
    unlink "$file.answers", "$file.judged";
    die "judge.py has failed:\n$said" unless $judged;
    return $judged;
}

1;
