# The modules that the suite needs exist and are loaded: otherwise a missing
# module would show as a hundred strange failures.

use UserSync::Test;

my ($status, $said)
    = run_command(UserSync::Httpd::program(), '-f', httpd()->{conf_file},
        '-d', httpd()->{dir}, '-M');
is $status, 0, 'httpd lists its modules' or diag $said;
my %loaded = map { $_ => 1 } $said =~ /^\s*(\w+)_module /mg;

for my $module ('so', 'log_config', UserSync::Httpd::modules(mpm())) {
    ok $loaded{$module}, "mod_$module is loaded"
        or diag UserSync::Httpd::module_file($module)
            . (-e UserSync::Httpd::module_file($module)
                ? ' exists' : ' is missing');
}

is_deeply [grep {/^mpm_/} sort keys %loaded], ['mpm_' . mpm()],
    'the MPM is ' . mpm();

for my $module (qw(Apache::TestRun DBD::Pg IO::Socket::SSL Mojolicious)) {
    ok eval "require $module; 1", "Perl has $module" or diag $@;
}

done_testing;
