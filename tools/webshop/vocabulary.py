"""The words that the generated catalogue is made of: kinds of products, attributes, options, brands.

Everything here is invented for this project. An attribute is written with the preposition that an
instruction gives it: "is dishwasher safe", "with padded straps", "for small kitchens".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProductKind:
    """A kind of product.

    Attributes:
        noun: What one of them is called.
        query: What shoppers search for to find them.
        category: Category levels, from the widest.
        materials: What it may be made of.
        prices: Lowest and highest price in dollars.
        options: Names of the option sets (`OPTION_SETS`) that it may offer.
        attributes: Attributes of its own, beside those of its department.
    """

    noun: str
    query: str
    category: tuple[str, ...]
    materials: str
    prices: tuple[float, float]
    options: tuple[str, ...]
    attributes: str


# Attributes that any product of a department may have, separated by semicolons.
DEPARTMENT_ATTRIBUTES = {
    "Kitchen": "is easy to clean; is stain resistant; is space saving; is hand finished; is food safe; "
    "with a lifetime warranty; for small kitchens; for everyday meals",
    "Garden": "is weather proof; is frost resistant; is light weight; is hand made; is rust proof; "
    "with recycled parts; for balconies; for beginners",
    "Bedroom": "is fade resistant; is easy to clean; is hand finished; is pet friendly; is eco friendly; "
    "with a storage bag; for guest rooms; for small bedrooms",
    "Travel": "is water resistant; is light weight; is tear resistant; is easy to carry; "
    "is machine washable; with a gift box; for weekend trips; for commuters",
    "Study": "is eco friendly; is left hand friendly; is hand made; is scratch proof; is space saving; "
    "with a gift box; for students; for home offices",
    "Care": "is cruelty free; is plastic free; is travel size; is hand made; is eco friendly; "
    "with a gift box; for daily use; for all ages",
    "Pantry": "is gluten free; is low sodium; is non gmo; is sugar free; is kosher certified; "
    "with resealable bags; with no additives; for lunch boxes",
    "Sport": "is sweat proof; is quick drying; is easy to clean; is light weight; is hypoallergenic; "
    "with a carry bag; for home workouts; for beginners",
}

# Option name to the values it may take.
OPTION_SETS = {
    "Color": "black; white; forest green; navy blue; sky blue; brick red; mustard yellow; slate grey; "
    "dusty pink; lavender; copper; walnut brown; off white; teal; charcoal; coral; sand/cream; black/gold",
    "Clothing size": "x-small; small; medium; large; x-large; xx-large",
    "Bed size": "twin; full; queen; king; california king",
    "Capacity": "12 liters; 20 liters; 28 liters; 35 liters; 45 liters",
    "Volume": "100 ml; 250 ml; 500 ml; 1 liter; 1.5 liters",
    "Length": "12 inch; 18 inch; 24 inch; 36 inch; 48 inch",
    "Count": "pack of 1; pack of 2; pack of 4; pack of 6; pack of 12",
    "Scent": "cedar wood; orange blossom; green tea; vanilla bean; sea salt; unscented",
    "Flavor": "smoked paprika; wild garlic; lemon pepper; dark cocoa; toasted sesame; ginger lime; plain",
    "Ruling": "blank; lined; dotted; squared",
    "Thickness": "3 mm; 5 mm; 8 mm; 10 mm",
}
# The name under which an option set is offered, where it is not its own.
OPTION_NAMES = {"Clothing size": "Size", "Bed size": "Size", "Volume": "Size", "Length": "Size"}

KINDS = (
    ProductKind(
        "saucepan", "saucepans", ("Home", "Kitchen", "Cookware", "Pots & Pans", "Saucepans"),
        "copper; cast iron; enamelled steel", (18, 140), ("Volume", "Color"),
        "is scratch proof; is heat resistant; is oven safe; "
        "is induction ready; with a glass lid; with a pouring lip",
    ),
    ProductKind(
        "cutting board", "cutting boards", ("Home", "Kitchen", "Utensils", "Cutting Boards"),
        "acacia; bamboo; maple", (12, 70), ("Length", "Count"),
        "is odor resistant; with rubber feet; is double sided; "
        "is knife friendly; with a juice groove; for carving",
    ),
    ProductKind(
        "water kettle", "kettles", ("Home", "Kitchen", "Small Appliances", "Kettles"),
        "stainless steel; glass; ceramic", (22, 95), ("Color", "Volume"),
        "is quiet; with a water gauge; is fast boiling; "
        "is cool touch; with a goose neck; with auto shut off",
    ),
    ProductKind(
        "storage jar", "storage jars", ("Home", "Kitchen", "Storage", "Food Containers"),
        "glass; stoneware; tin", (8, 45), ("Volume", "Count"),
        "is see through; with a writing label; is air tight; "
        "is leak proof; is stackable; with a bamboo lid",
    ),
    ProductKind(
        "plant pot", "plant pots", ("Garden", "Planters", "Pots"),
        "terracotta; concrete; glazed clay", (9, 80), ("Color", "Length"),
        "is stackable; with a saucer; is self watering; "
        "is crack resistant; with drainage holes; for succulents",
    ),
    ProductKind(
        "hand trowel", "garden hand tools", ("Garden", "Tools", "Hand Tools", "Trowels"),
        "carbon steel; stainless steel; aluminum", (7, 38), ("Count",),
        "is double forged; with a wrist strap; is bend proof; "
        "with a depth scale; with an ash handle; for planting bulbs",
    ),
    ProductKind(
        "watering can", "watering cans", ("Garden", "Watering", "Watering Cans"),
        "zinc; copper; recycled plastic", (14, 66), ("Volume", "Color"),
        "is leak proof; with a removable rose; is drip free; "
        "is well balanced; with a long spout; for house plants",
    ),
    ProductKind(
        "folding bench", "garden benches", ("Garden", "Furniture", "Seating", "Benches"),
        "teak; eucalyptus; powder coated steel", (65, 420), ("Length", "Color"),
        "is quick to assemble; with a cup holder; is foldable; "
        "with curved arms; with a slatted seat; for small patios",
    ),
    ProductKind(
        "duvet cover", "duvet covers", ("Home", "Bedroom", "Bedding", "Duvet Covers"),
        "linen; washed cotton; bamboo viscose", (28, 160), ("Color", "Bed size"),
        "is wrinkle free; for hot sleepers; is reversible; "
        "with corner ties; with coconut buttons; for all seasons",
    ),
    ProductKind(
        "throw blanket", "throw blankets", ("Home", "Bedroom", "Bedding", "Blankets & Throws"),
        "lambs wool; cotton; fleece", (19, 120), ("Color",),
        "is super soft; is machine washable; is double knit; "
        "is pet friendly; with tassel fringe; for living rooms",
    ),
    ProductKind(
        "bed pillow", "bed pillows", ("Home", "Bedroom", "Bedding", "Pillows"),
        "latex; memory foam; buckwheat", (20, 98), ("Bed size", "Count"),
        "is breathable; for sensitive skin; is adjustable; "
        "is cooling; with a cotton cover; for side sleepers",
    ),
    ProductKind(
        "bedside lamp", "bedside lamps", ("Home", "Bedroom", "Lighting", "Table Lamps"),
        "brass; oak; frosted glass", (24, 130), ("Color",),
        "is energy saving; with a fabric cord; is dimmable; "
        "is flicker free; with usb ports; for late reading",
    ),
    ProductKind(
        "backpack", "backpacks", ("Luggage", "Travel", "Bags", "Backpacks"),
        "waxed canvas; ripstop nylon; vegan leather", (32, 190), ("Color", "Capacity"),
        "is cabin approved; with padded straps; is anti theft; "
        "with a laptop sleeve; with a chest strap; for day hikes",
    ),
    ProductKind(
        "duffel bag", "duffel bags", ("Luggage", "Travel", "Bags", "Duffel Bags"),
        "waxed canvas; ballistic nylon; felt", (29, 170), ("Color", "Length"),
        "is scratch proof; with hidden pockets; is foldable; "
        "with a shoe compartment; with lockable zippers; for the gym",
    ),
    ProductKind(
        "packing cube set", "packing cubes", ("Luggage", "Travel", "Accessories", "Packing Organizers"),
        "mesh; ripstop nylon; cotton", (11, 48), ("Color", "Count"),
        "is odor resistant; with mesh panels; is compression ready; "
        "is see through; with double zippers; for carry on bags",
    ),
    ProductKind(
        "neck pillow", "travel pillows", ("Luggage", "Travel", "Accessories", "Travel Pillows"),
        "memory foam; micro beads; fleece", (13, 55), ("Color",),
        "is super soft; with a washable cover; is inflatable; "
        "is chin supporting; with a snap closure; for long flights",
    ),
    ProductKind(
        "notebook", "notebooks", ("Office", "Study", "Paper", "Notebooks"),
        "linen bound; leather bound; stone paper", (6, 42), ("Ruling", "Color"),
        "is acid free; with rounded corners; is lay flat; "
        "is numbered; with a ribbon marker; for fountain pens",
    ),
    ProductKind(
        "fountain pen", "fountain pens", ("Office", "Study", "Writing", "Pens"),
        "resin; brass; ebonite", (15, 180), ("Color",),
        "is refillable; with a steel clip; is piston filled; "
        "is drip free; with a flexible nib; for calligraphy",
    ),
    ProductKind(
        "desk organizer", "desk organizers", ("Office", "Study", "Desk Accessories", "Organizers"),
        "beech; wire mesh; cork", (14, 68), ("Color", "Length"),
        "is quick to assemble; with a drawer; is stackable; "
        "with a phone stand; with felt feet; for narrow desks",
    ),
    ProductKind(
        "hand cream", "hand creams", ("Beauty", "Care", "Skin Care", "Hand Creams"),
        "shea butter; oat milk; almond oil", (6, 36), ("Scent", "Volume"),
        "is fragrance free; for dry skin; is fast absorbing; "
        "is non greasy; with vitamin e; for gardeners",
    ),
    ProductKind(
        "hair comb", "hair combs", ("Beauty", "Care", "Hair Care", "Combs"),
        "sandal wood; cellulose acetate; horn", (5, 32), ("Color", "Count"),
        "is snag free; for thick hair; is anti static; "
        "is wide toothed; with a leather sleeve; for curly hair",
    ),
    ProductKind(
        "soap bar", "soap bars", ("Beauty", "Care", "Bath", "Soaps"),
        "olive oil; goat milk; charcoal", (4, 28), ("Scent", "Count"),
        "is alcohol free; for sensitive skin; is palm oil free; "
        "is long lasting; with oat flakes; for the whole body",
    ),
    ProductKind(
        "trail mix", "trail mixes", ("Grocery", "Pantry", "Snacks", "Nuts & Seeds"),
        "almond; cashew; pumpkin seed", (7, 40), ("Flavor", "Count"),
        "is small batch; is salt free; is dry roasted; "
        "is high protein; with dried berries; for hiking",
    ),
    ProductKind(
        "crispbread", "crispbreads", ("Grocery", "Pantry", "Snacks", "Crackers"),
        "rye; buckwheat; chickpea", (4, 24), ("Flavor", "Count"),
        "is small batch; is yeast free; is stone baked; "
        "is high fiber; with whole seeds; for cheese boards",
    ),
    ProductKind(
        "spice blend", "spice blends", ("Grocery", "Pantry", "Seasonings", "Spices"),
        "chili; herb; pepper", (5, 30), ("Flavor", "Count"),
        "is small batch; is sun dried; is coarse ground; "
        "is hand picked; with sea salt; for grilling",
    ),
    ProductKind(
        "yoga mat", "yoga mats", ("Sports", "Sport", "Yoga", "Mats"),
        "natural rubber; cork; jute", (18, 110), ("Color", "Thickness"),
        "is non slip; is shock absorbing; is latex free; "
        "is double sided; with alignment lines; for hot yoga",
    ),
    ProductKind(
        "running shirt", "running shirts", ("Sports", "Sport", "Clothing", "Shirts"),
        "merino wool; recycled polyester; tencel", (16, 85), ("Color", "Clothing size"),
        "is breathable; with reflective trim; is odor resistant; "
        "is slim fit; with thumb holes; for cold mornings",
    ),
    ProductKind(
        "resistance band", "resistance bands", ("Sports", "Sport", "Training", "Bands"),
        "natural latex; woven fabric; silicone", (8, 46), ("Color", "Count"),
        "is non slip; with door anchors; is snap resistant; "
        "is roll free; with foam grips; for physical therapy",
    ),
)  # fmt: skip

# Brands and product lines are put together from syllables, so that none is anybody's.
BRAND_STARTS = "Vel Tor Ash Quin Mar Ost Bry Hal Nix Fen Dra Lum Syl Kor Pel Wex"
BRAND_ENDS = "wick dorra mund ovia brenn ista quell ander holt evar ombe rill"
LINES = "Alder Basin Cove Drift Ember Field Grove Haven Isle Juniper Knoll Lark Meadow North Orchard Pine"

# Ways to ask for a product; {article} fits {noun}; what it has to be like follows.
REQUESTS = (
    "I want {article} {noun}",
    "Please find me {article} {noun}",
    "I am looking for {query}",
    "Show me {query}",
    "I need {article} {noun}",
)
# What a bullet point says about an attribute ({attribute}, capitalised) of a {noun}.
BULLETS = (
    "{attribute}: tested on every {noun} before it leaves the workshop",
    "{attribute}, as one expects of a good {noun}",
    "{attribute}; see the care card for details",
    "{attribute} by design, not as an afterthought",
)
DESCRIPTIONS = (
    "The {line} {noun} by {brand}, made of {material}. {first} and {second}.",
    "{brand} makes this {noun} of {material} in small numbers. It is part of the {line} series.",
    "A {noun} of {material} that stays in use for years. {first}.",
)
