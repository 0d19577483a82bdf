// Package canvas draws plots of lines and text as SVG and PNG. It imports nothing of weft.
package canvas

import (
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// A Canvas is drawn on. Coordinates are pixels from the upper left corner.
type Canvas interface {
	Line(x1, y1, x2, y2 float64, c color.RGBA)
	// Text writes s whose left end, middle or right end (align 0, 1, 2) is at x.
	Text(x, y float64, align int, c color.RGBA, s string)
	Write(w io.Writer) error
}

// svg writes SVG.
type svg struct {
	width, height int
	b             strings.Builder
}

// NewSVG returns an empty drawing that becomes an SVG file.
func NewSVG(width, height int) Canvas { return &svg{width: width, height: height} }

func hexColor(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

func (s *svg) Line(x1, y1, x2, y2 float64, c color.RGBA) {
	fmt.Fprintf(&s.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, hexColor(c))
}

func (s *svg) Text(x, y float64, align int, c color.RGBA, text string) {
	anchor := [...]string{"start", "middle", "end"}[align]
	fmt.Fprintf(&s.b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, hexColor(c), html.EscapeString(text))
}

func (s *svg) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<rect width="%d" height="%d" fill="white"/>
%s</svg>
`, s.width, s.height, s.width, s.height, s.width, s.height, s.b.String())
	return err
}

// bitmap draws pixels.
type bitmap struct{ img *image.RGBA }

// NewPNG returns an empty drawing that becomes a PNG file.
func NewPNG(width, height int) Canvas {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	return &bitmap{img}
}

func (p *bitmap) Line(x1, y1, x2, y2 float64, c color.RGBA) {
	steps := int(math.Max(math.Abs(x2-x1), math.Abs(y2-y1))) + 1
	for i := range steps + 1 {
		t := float64(i) / float64(steps)
		p.img.SetRGBA(int(math.Round(x1+t*(x2-x1))), int(math.Round(y1+t*(y2-y1))), c)
	}
}

func (p *bitmap) Text(x, y float64, align int, c color.RGBA, text string) {
	text = strings.ReplaceAll(text, "µ", "u") // the font is ASCII
	face := basicfont.Face7x13
	left := x - float64(align)/2*float64(face.Advance*utf8.RuneCountInString(text))
	d := font.Drawer{Dst: p.img, Src: image.NewUniform(c), Face: face, Dot: fixed.P(int(left), int(y))}
	d.DrawString(text)
}

func (p *bitmap) Write(w io.Writer) error { return png.Encode(w, p.img) }
