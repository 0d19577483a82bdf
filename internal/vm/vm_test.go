package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestChecked(t *testing.T) {
	dir := t.TempDir()
	comma := filepath.Join(dir, "a,b")
	if err := os.Mkdir(comma, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	m, err := Machine{Writable: []string{link}}.checked()
	if err != nil {
		t.Fatal(err)
	}
	if real, _ := filepath.EvalSymlinks(dir); m.Writable[0] != real {
		t.Errorf("the guest mounts %s, not %s", m.Writable[0], real)
	}
	for want, bad := range map[string]Machine{
		"-1 CPUs":            {CPUs: -1},
		"is emulated":        {KVM: true, Steady: true},
		"one processor":      {CPUs: 2, Steady: true},
		"17 MiB of memory":   {Memory: 17},
		"15 NICs: 0 to 14":   {NICs: 15},
		"-3 NICs":            {NICs: -3},
		"900 hugepages":      {Hugepages: 900},
		"-1 hugepages":       {Hugepages: -1},
		"no such file":       {Writable: []string{"/no/such/directory"}},
		"is not a directory": {Writable: []string{"/dev/null"}},
		"no comma":           {Writable: []string{comma}},
	} {
		if _, err := bad.checked(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	if _, err := (Machine{}).Run(context.Background(), Command{}); err == nil {
		t.Error("no command is a command")
	}
}

// TestQEMUArgs compares what qemu is asked for with golden files.
func TestQEMUArgs(t *testing.T) {
	for name, m := range map[string]Machine{
		"small": {},
		"all": {CPUs: 2, Memory: 1024, NICs: 3, NICModel: "virtio-net-pci", Hugepages: 64,
			Writable: []string{os.TempDir()}, KernelArgs: []string{"quiet"}, QEMUArgs: []string{"-snapshot"}},
		"kvm":    {KVM: true, NICs: 1, NoIOMMU: true},
		"steady": {Steady: true},
	} {
		m, err := m.checked()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(strings.Join(m.qemuArgs(&Cache{Dir: "/cache"}), " ")+"\n", " -", "\n-")
		file := filepath.Join("testdata", name+".args")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(file); err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s", file, err, got)
		}
	}
}

func TestLoadOrder(t *testing.T) {
	const dep = `kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko
kernel/net/9p/9pnet.ko:
kernel/fs/netfs/netfs.ko:
kernel/net/9p/9pnet-virtio.ko.xz: kernel/net/9p/9pnet.ko kernel/drivers/virtio.ko
kernel/drivers/virtio.ko:
`
	got, err := loadOrder(dep, []string{"9p", "9pnet_virtio"})
	want := "kernel/fs/netfs/netfs.ko kernel/net/9p/9pnet.ko kernel/fs/9p/9p.ko kernel/drivers/virtio.ko kernel/net/9p/9pnet-virtio.ko.xz"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := loadOrder(dep, []string{"overlay"}); err == nil || !strings.Contains(err.Error(), "overlay") {
		t.Errorf("a module that is not there: %v", err)
	}
}

// TestArchive compares an archive with one by hand; that kernels read it, guests show.
func TestArchive(t *testing.T) {
	var a archive
	a.file("init", 0o755, []byte("hello"))
	a.file("job.json", 0o600, nil)
	b := a.end()
	const first = "070701000000010000" + "81ED" + "00000000000000000000000100000000" + "00000005" + "00000000000000000000000000000000" + "00000005" + "00000000init\x00\x00hello\x00\x00\x00" + "070701"
	if !strings.HasPrefix(string(b), first) {
		t.Errorf("the archive begins with\n%q\nnot\n%q", b[:min(len(b), len(first))], first)
	}
	if len(b)%4 != 0 || !bytes.Contains(b, []byte("TRAILER!!!\x00")) {
		t.Errorf("the archive ends with %q", b[len(b)-32:])
	}
}

func TestReport(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &report{log: slog.New(slog.DiscardHandler), cancel: cancel, late: time.AfterFunc(time.Hour, func() {})}
	for _, part := range []string{"up 6.1", ".0 3.5\nex", "it 3", "\nnonsense\n"} {
		if n, err := r.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if r.status == nil || *r.status != 3 {
		t.Errorf("status %v", r.status)
	}
	if r.late.Stop() {
		t.Error("the guest is up, and its start is still waited for")
	}
	r.Write([]byte("fail mount 9p\n"))
	if err := context.Cause(ctx); err == nil || err.Error() != "mount 9p" {
		t.Errorf("cause %v", err)
	}
}

func TestTail(t *testing.T) {
	var l tail
	if got := l.paragraph("qemu"); got != "" {
		t.Errorf("nothing was said: %q", got)
	}
	l.Write(bytes.Repeat([]byte("x"), 2*tailSize))
	l.Write([]byte("panic\r\n"))
	if got := l.paragraph("qemu"); !strings.HasPrefix(got, "\nqemu said:\nx") || !strings.HasSuffix(got, "xpanic") || len(got) > tailSize+20 {
		t.Errorf("%q", got)
	}
}

// TestExtractKernel takes a kernel out of a boot image.
func TestExtractKernel(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("no xz installed")
	}
	dir := t.TempDir()
	f := fetcher{ctx: context.Background()}
	to := filepath.Join(dir, "vmlinux")
	cmd := exec.Command("xz", "-c")
	cmd.Stdin = strings.NewReader("\x7fELF kernel")
	packed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	image := func(payload []byte) string {
		b := make([]byte, 1024+16, 4096)
		b[0x1f1] = 1 // 2 sectors of set-up code
		binary.LittleEndian.PutUint32(b[0x248:], 16)
		binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)+4))
		b = append(append(b, payload...), 0, 1, 0, 0)
		path := filepath.Join(dir, "vmlinuz")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := f.extractKernel(image(packed), to); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(to); string(b) != "\x7fELF kernel" {
		t.Errorf("took out %q", b)
	}
	// Packed otherwise, the image itself is started.
	if err := f.extractKernel(image([]byte("zstd")), to); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(to); !bytes.Contains(b, []byte("zstd")) || len(b) < 1024 {
		t.Errorf("took %d bytes", len(b))
	}
	for _, bad := range []string{"/dev/null", image(packed)} {
		if b, _ := os.ReadFile(bad); len(b) > 0 {
			binary.LittleEndian.PutUint32(b[0x24c:], 1<<30)
			os.WriteFile(bad, b, 0o644)
		}
		if err := f.extractKernel(bad, to); err == nil || !strings.Contains(err.Error(), "is no kernel") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestOnce makes a directory entirely or not at all.
func TestOnce(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "kernel")
	f := fetcher{ctx: context.Background()}
	why := errors.New("no network")
	if err := os.Mkdir(dir+".part", 0o755); err != nil { // of somebody who was killed
		t.Fatal(err)
	}
	if err := f.once(dir, func(part string) error {
		os.WriteFile(filepath.Join(part, "half"), nil, 0o644)
		return why
	}); err != why {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(base); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for range 2 {
		times := 0
		if err := f.once(dir, func(part string) error {
			times++
			return os.WriteFile(filepath.Join(part, "whole"), nil, 0o644)
		}); err != nil || times > 1 {
			t.Errorf("%v, made %d times", err, times)
		}
	}
	if left, _ := os.ReadDir(base); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// TestFetchErrors lets apt-get be missing, fail and take too long.
func TestFetchErrors(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	f := fetcher{ctx: ctx, log: slog.New(slog.DiscardHandler)}
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := Fetch(ctx, nil); !errors.Is(err, ErrUnavailable) || !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "apt-cache") {
		t.Errorf("no apt: %v", err)
	}
	script := func(name, text string) {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script("apt-cache", "echo linux-image-amd64; echo '  Recommends: firmware'")
	script("apt-get", "echo E: no mirror >&2; exit 100")
	if err := f.fetchKernel(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no package linux-image-amd64") {
		t.Errorf("not Debian: %v", err)
	}
	script("apt-cache", "echo '  Depends: linux-image-1-amd64'")
	if err := f.fetchKernel(t.TempDir()); err == nil || !strings.Contains(err.Error(), "E: no mirror") {
		t.Errorf("no mirror: %v", err)
	}
	if err := f.fetchQEMU(t.TempDir()); err == nil || !strings.Contains(err.Error(), "E: no mirror") {
		t.Errorf("no mirror: %v", err)
	}
	script("apt-get", "exec sleep 1000")
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := (fetcher{ctx: short, log: f.log}).fetchQEMU(t.TempDir()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow mirror: %v", err)
	}
}
