package UserSync::Browser;

# A real browser, Debian's Chromium without a window, that a test drives through
# its DevTools:
#
#   my $browser = UserSync::Browser->start;
#   $browser->size(390, 844);
#   $browser->open($httpd->url('/usersync-status'));
#   is $browser->value('document.documentElement.scrollWidth'), 390;
#   $browser->screenshot("$dir/page.png");
#
# scheme => 'dark' shows pages as at night.

use strict;
use warnings;

use MIME::Base64 qw(decode_base64);
use Time::HiRes qw(time);

use UserSync::Util qw(alive new_dir patience slurp spew wait_until);

# The program, or nothing: it is large, and not needed for anything else.
sub program {
    my ($found) = grep {-x} map {"$_/chromium"} split /:/, $ENV{PATH};
    return $found;
}

sub start {
    my ($class, %arg) = @_;
    require Mojo::UserAgent;
    my $dir = new_dir('browser');
    my $self = bless { owner => $$, id => 0, events => {} }, $class;
    $self->{pid} = _spawn($dir);
    wait_until { slurp("$dir/DevToolsActivePort") } 60 * patience(),
        'the browser to listen';
    my ($port) = split /\n/, slurp("$dir/DevToolsActivePort");
    $self->{agent} = Mojo::UserAgent->new->max_redirects(0)
        ->inactivity_timeout(0);
    # whole pages come in one message
    $self->{agent}->max_response_size(0);
    my $tab;
    wait_until {
        my $tabs = eval {
            $self->{agent}->get("http://127.0.0.1:$port/json")->res->json;
        } || [];
        ($tab) = grep { $_->{type} eq 'page' } @$tabs;
    } 30 * patience(), 'a tab';
    $self->_connect($tab->{webSocketDebuggerUrl});
    $self->call('Page.enable');
    $self->call('Emulation.setEmulatedMedia', features => [
        { name => 'prefers-color-scheme', value => $arg{scheme} || 'light' }]);
    return $self;
}

# In a container it can have no sandbox, and needs none for our own pages.
sub _spawn {
    my ($dir) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    setpgrp;
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', "$dir/said";
    open STDERR, '>&', \*STDOUT;
    $ENV{HOME} = $dir;
    exec program(), '--headless=new', '--no-sandbox', '--disable-gpu',
        '--disable-dev-shm-usage', '--no-first-run', '--disable-extensions',
        '--disable-background-networking', '--disable-component-update',
        '--disable-sync', '--hide-scrollbars', '--no-proxy-server',
        "--user-data-dir=$dir", '--remote-debugging-port=0', 'about:blank'
        or POSIX::_exit(127);
}

sub _connect {
    my ($self, $url) = @_;
    $self->{agent}->websocket_p($url)->then(sub {
        my ($socket) = @_;
        $socket->max_websocket_size(100_000_000);
        $socket->on(json => sub {
            my (undef, $message) = @_;
            if ($message->{id}) { $self->{answer}{ $message->{id} } = $message }
            else { $self->{events}{ $message->{method} }++ }
        });
        $self->{socket} = $socket;
    })->catch(sub { $self->{failed} = "$_[0]" })->wait;
    die "the browser: $self->{failed}\n" if $self->{failed};
    return;
}

# Until the condition holds, or dies.
sub _until {
    my ($self, $name, $is) = @_;
    my $end = time + 30 * patience();
    until ($is->()) {
        die "the browser: no $name\n" if time > $end || !alive($self->{pid});
        my $timer = Mojo::IOLoop->timer(0.05 => sub { });
        Mojo::IOLoop->one_tick;
        Mojo::IOLoop->remove($timer);
    }
    return;
}

# A command of the DevTools protocol.
sub call {
    my ($self, $method, %params) = @_;
    my $id = ++$self->{id};
    $self->{socket}->send({ json =>
        { id => $id, method => $method, params => \%params } });
    $self->_until("answer to $method", sub { $self->{answer}{$id} });
    my $answer = delete $self->{answer}{$id};
    die "the browser: $method: $answer->{error}{message}\n" if $answer->{error};
    return $answer->{result};
}

# Of the screen, in CSS pixels; phones have two of their own for each.
sub size {
    my ($self, $width, $height) = @_;
    my $is_phone = $width < 600;
    $self->call('Emulation.setDeviceMetricsOverride', width => $width,
        height => $height, deviceScaleFactor => $is_phone ? 2 : 1,
        mobile => $is_phone ? \1 : \0);
    return;
}

# Opens a page and waits until it is there.
sub open {
    my ($self, $url) = @_;
    my $before = $self->loads;
    $self->call('Page.navigate', url => $url);
    $self->_until("page $url", sub { $self->loads > $before });
    return;
}

# How many pages were loaded.
sub loads { return $_[0]{events}{'Page.loadEventFired'} || 0 }

# Waits until the page has loaded itself again.
sub wait_reload {
    my ($self) = @_;
    my $before = $self->loads;
    $self->_until('reload', sub { $self->loads > $before });
    return;
}

# Of an expression of JavaScript, in the page.
sub value {
    my ($self, $expression) = @_;
    my $result = $self->call('Runtime.evaluate', expression => $expression,
        returnByValue => \1);
    die "the browser: $expression: $result->{exceptionDetails}{text}\n"
        if $result->{exceptionDetails};
    return $result->{result}{value};
}

# The whole page, or its first so many pixels.
sub screenshot {
    my ($self, $file, $most) = @_;
    my ($width, $height)
        = map { $self->value("document.documentElement.scroll$_") }
        qw(Width Height);
    $height = $most if $most && $height > $most;
    my $image = $self->call('Page.captureScreenshot', format => 'png',
        captureBeyondViewport => \1, clip => { x => 0, y => 0,
            width => $width, height => $height, scale => 1 });
    return spew($file, decode_base64($image->{data}));
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    delete $self->{socket};
    local $?;
    # it is many processes, which are in no hurry to end
    kill 'KILL', -$pid;
    waitpid $pid, 0;
    wait_until { !kill 0, -$pid } 30;
    return;
}

sub DESTROY {
    my ($self) = @_;
    $self->stop if $self->{owner} == $$;
    return;
}

1;
