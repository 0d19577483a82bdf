package shm

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// What C programs see of the memory is what Go programs see.
func TestLayoutInC(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("there is no gcc here")
	}
	var d Desc
	var h ringHead
	want, source := "", "#include \"weft_nf.h\"\nint main(void) {\n"
	for _, c := range []struct {
		c string
		g uintptr
	}{
		{"offsetof(struct weft_desc, frame)", unsafe.Offsetof(d.Frame)},
		{"offsetof(struct weft_desc, length)", unsafe.Offsetof(d.Length)},
		{"offsetof(struct weft_desc, offset)", unsafe.Offsetof(d.Offset)},
		{"offsetof(struct weft_desc, to)", unsafe.Offsetof(d.To)},
		{"offsetof(struct weft_desc, port)", unsafe.Offsetof(d.Port)},
		{"offsetof(struct weft_desc, action)", unsafe.Offsetof(d.Action)},
		{"offsetof(struct weft_desc, flags)", unsafe.Offsetof(d.Flags)},
		{"sizeof(struct weft_desc)", unsafe.Sizeof(d)},
		{"offsetof(struct weft_ring_head, tail)", unsafe.Offsetof(h.tail)},
		{"offsetof(struct weft_ring_head, head)", unsafe.Offsetof(h.head)},
		{"offsetof(struct weft_ring_head, sleep)", unsafe.Offsetof(h.sleep)},
		{"sizeof(struct weft_ring_head)", unsafe.Sizeof(h)},
		{"WEFT_FRAME", FrameSize}, {"WEFT_LARGE", LargeSize}, {"WEFT_HAS_VNET", uintptr(HasVnet)},
		{"WEFT_DROP", uintptr(Drop)}, {"WEFT_NEXT", uintptr(Next)}, {"WEFT_TO_NF", uintptr(ToNF)}, {"WEFT_OUT", uintptr(Out)},
		{"WEFT_CLONE", uintptr(Clone)}, {"WEFT_BUFFER", uintptr(Buffer)}, {"WEFT_CONTROLLER", uintptr(Controller)},
	} {
		want += fmt.Sprintf("%s %d\n", c.c, c.g)
		source += fmt.Sprintf("\tprintf(\"%%s %%d\\n\", %q, (int)(%s));\n", c.c, c.c)
	}
	program := filepath.Join(t.TempDir(), "layout")
	cmd := exec.Command("gcc", "-std=c99", "-Wno-unused-function", "-I../nf/c", "-o", program, "-x", "c", "-")
	cmd.Stdin = strings.NewReader(source + "\treturn 0;\n}\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := exec.Command(program).Output()
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s, want\n%s", err, got, want)
	}
}
